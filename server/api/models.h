/*
 * models.h - the model object, for whoever makes a version.
 */
#ifndef ACCRETED_SERVER_API_MODELS_H
#define ACCRETED_SERVER_API_MODELS_H

#include <stdint.h>

struct request;

/* Replies with version `version`; 404 when there is none. Loop. */
void reply_model(struct request *req, int status, int64_t version);
/* The 404 for the path's {version}. */
void reply_model_missing(struct request *req);

#endif
