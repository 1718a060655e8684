/*
 * router.h - finds the route of a method and a raw path, and decodes what it names. Pure functions,
 * any thread.
 */
#ifndef ACCRETED_SERVER_HTTP_ROUTER_H
#define ACCRETED_SERVER_HTTP_ROUTER_H

#include "server/http/http.h"

enum {
    ROUTE_MAX_PARAMS = 2,
    ROUTE_NAME_BYTES = 24,
    ROUTE_VALUE_BYTES = 512,
    ROUTE_ALLOW_BYTES = 64,
};

struct route_param {
    char name[ROUTE_NAME_BYTES];
    char value[ROUTE_VALUE_BYTES]; /* decoded; no '/', no NUL, not "", "." or ".." */
};

struct route_match {
    const struct route *route; /* ROUTE_FOUND */
    struct route_param params[ROUTE_MAX_PARAMS];
    int param_count;
    char allow[ROUTE_ALLOW_BYTES]; /* ROUTE_WRONG_METHOD: "GET, HEAD, POST" */
};

enum route_result {
    ROUTE_FOUND,
    ROUTE_NOT_FOUND,
    ROUTE_WRONG_METHOD, /* the path exists, for match->allow */
    ROUTE_BAD_PATH,     /* malformed percent-encoding, dot segments, an encoded '/', too long */
};

/* `path` as in the request line, without the query. `routes` ends with a zeroed entry. */
enum route_result router_find(const struct route *routes, const char *method, const char *path,
                              struct route_match *match);

/* Decodes %XX of in[0..n-1] into a string. False: malformed, %00, or longer than out_bytes. */
bool percent_decode(char *out, size_t out_bytes, const char *in, size_t n);

#endif
