/*
 * forecast.h - what can be said of a job before it starts: what may go wrong with its images, how long
 * it takes, when it begins.
 */
#ifndef ACCRETED_SERVER_JOBS_FORECAST_H
#define ACCRETED_SERVER_JOBS_FORECAST_H

#include <jansson.h>

#include "server/jobs/plan.h"
#include "server/jobs/queue.h"

/* Images of a class below which it is hardly learned, and how many times as many another may have. */
enum { FEW_IMAGES = 20, IMBALANCE = 10 };

/* Training and test images of class `index` of a plan made for POST. */
void forecast_images(const struct plan *p, int index, int64_t *train, int64_t *test);

/* JSON array of {code, detail, classes}: not_trained, few_images, imbalanced, no_test_images; of a plan made for
 * POST. New reference; NULL: no memory. */
json_t *forecast_warnings(const struct plan *p);

/* Seconds that passes over so many images take at the speed of the newest job that succeeded; NaN
 * where there is none. */
double forecast_seconds(struct db_txn *t, int64_t image_passes);

/* Of a job: its images, times its epochs; one pass where it trains nothing. */
int64_t forecast_passes(const struct plan *p);

/* When a queued job is to start: milliseconds since 1970 after the running one and the queued ones
 * before `id` (INT64_MAX: all of them), in whole tens of seconds; 0 where that cannot be said. On the loop. */
int64_t forecast_start(struct db_txn *t, struct queue *q, int64_t id);

#endif
