/*
 * predict.h - what the two ways to ask for predictions (predict.c, inference_v2.c) share: refusals.
 */
#ifndef ACCRETED_SERVER_API_PREDICT_H
#define ACCRETED_SERVER_API_PREDICT_H

#include <stdint.h>

#include "server/decode/image.h"

struct request;

/* The HTTP status of an image that was refused, and what to tell its sender (static storage). */
int image_refusal(enum image_verdict verdict, const char **detail);

/* Replies to what predictor_submit, or a task that is done, could not do: `err` of version
 * `version` (0: the active one). */
void reply_prediction_error(struct request *req, int err, int64_t version);

#endif
