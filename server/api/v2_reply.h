/*
 * v2_reply.h - the body of an Open Inference Protocol answer: JSON, and binary tensors behind it
 * where they were asked for.
 *
 * Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_API_V2_REPLY_H
#define ACCRETED_SERVER_API_V2_REPLY_H

#include "server/api/v2_request.h"
#include "server/jobs/serving.h"

struct v2_reply {
    char *bytes; /* owned */
    size_t size_bytes;
    size_t json_bytes; /* of them; fewer where binary tensors follow */
    bool binary;       /* some output is; then the header Inference-Header-Content-Length is due */
};

/* `scores` and `probabilities` are (r->count, classes). Errors: ERR_NOMEM, ERR_NUMERIC (a score is
 * not finite). */
int v2_reply_build(struct v2_reply *out, const struct v2_request *r, const char *model,
                   const struct serving *s, const float *scores, const float *probabilities);
void v2_reply_release(struct v2_reply *reply);

#endif
