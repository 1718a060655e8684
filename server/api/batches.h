/*
 * batches.h - parts of the batch's objects, for whoever else tells of them.
 */
#ifndef ACCRETED_SERVER_API_BATCHES_H
#define ACCRETED_SERVER_API_BATCHES_H

#include <jansson.h>

#include "server/store/batches.h"

struct request;

/* The object that GET answers; NULL when memory ran out. New reference. */
json_t *batch_json(const struct batch *b);

/* The 404 for a name that is none. */
void reply_batch_missing(struct request *req);
/* For errors of the store: ERR_MISSING is the caller's. */
void reply_batch_error(struct request *req, int err);

#endif
