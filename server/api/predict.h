/*
 * predict.h - refusals that the two ways to ask for predictions (predict.c, inference_v2.c) share, and
 * whoever else loads a version.
 */
#ifndef ACCRETED_SERVER_API_PREDICT_H
#define ACCRETED_SERVER_API_PREDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "server/decode/image.h"

struct request;

/* The HTTP status of an image that was refused, and what to tell its sender (static storage). */
int image_refusal(enum image_verdict verdict, const char **detail);

/* For a version that could not be loaded: replies 503 and returns true where classes were renamed or
 * retired while the request was under way. Then a snapshot of the shared store and the one below it,
 * which it names by its checksum, may have been read one before and one after they were erased from. */
bool reply_classes_changing(struct request *req);

/* Replies to what predictor_submit, or a task that is done, could not do: `err` of version
 * `version` (0: the active one). */
void reply_prediction_error(struct request *req, int err, int64_t version);

#endif
