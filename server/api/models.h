/*
 * models.h - the model object, for whoever makes a version.
 */
#ifndef ACCRETED_SERVER_API_MODELS_H
#define ACCRETED_SERVER_API_MODELS_H

#include <jansson.h>
#include <stdint.h>

#include "server/store/versions.h"

struct request;

/* The object that GET answers; NULL: *err says why, or it is 0 and memory ran out. */
json_t *model_json(struct db_txn *t, const struct version *v, int *err);

/* Replies with version `version`; 404 when there is none. Loop. */
void reply_model(struct request *req, int status, int64_t version);
/* The 404 for the path's {version}. */
void reply_model_missing(struct request *req);

#endif
