/*
 * worker.h - one job on the libuv pool, from the queued row to the published version.
 *
 *   begin -> data -> learner_run -> publish
 *     |        |          |            |
 *     +--------+----------+------------+--> end: failed, cancelled, or left for the next start
 *
 * The loop starts a worker, may send it a command, and reads its progress; all else happens on the
 * pool thread, which waits for the db thread where it writes.
 */
#ifndef ACCRETED_SERVER_JOBS_WORKER_H
#define ACCRETED_SERVER_JOBS_WORKER_H

#include <jansson.h>
#include <stdint.h>

#include "core/learner/learner.h"

struct app;
struct serving;
struct worker;

/* Starts job `id`, which must be queued. `done(ctx, w)` on the loop when it ended, however it did;
 * the owner frees w then. Loop. Errors: ERR_NOMEM. */
int worker_start(struct worker **out, struct app *app, int64_t id,
                 void (*done)(void *ctx, struct worker *w), void *ctx);
void worker_free(struct worker *w); /* after `done` */

int64_t worker_job(const struct worker *w);
/* COMMAND_CANCEL or COMMAND_STOP; the first one holds. Any thread. */
void worker_command(struct worker *w, enum learner_command command);
/* phase, progress, eta_seconds, images_per_second; new reference. Any thread. */
json_t *worker_live(struct worker *w);
/* The version it published, ready to serve: the caller takes the reference; NULL when none. After
 * `done`. */
struct serving *worker_take_serving(struct worker *w);

/* The API's word for a phase. Static storage. */
const char *worker_phase_name(enum learner_phase phase);

#endif
