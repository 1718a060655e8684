/*
 * limits.h - every limit that the API publishes: GET /api/v1/limits, and the name of it in each
 * refusal that it causes. Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_HTTP_LIMITS_H
#define ACCRETED_SERVER_HTTP_LIMITS_H

#include <stdint.h>

#include "server/config.h"

struct route; /* server/http/http.h */

struct limit {
    const char *name;   /* stable, snake_case */
    const char *unit;   /* "bytes", "pixels", "seconds" or what is counted */
    int status;         /* what is over it gets; 0: it waits, or is cut, or is told in another way */
    const char *code;   /* of that reply; NULL without a status */
    const char *option; /* that sets it; NULL: fixed */
    uint64_t (*value)(const struct config *c);
};

extern const struct limit limits[]; /* ends with a zeroed row */

/* The limit behind a problem's code, or NULL: what has to do with none, and body_too_large, which
 * several cause. */
const char *limit_of_code(const char *code);
/* The limit on the body of a route. */
const char *limit_of_body(const struct route *route);

#endif
