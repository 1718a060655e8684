/*
 * guard.h - refuses requests whose framing or Host invites trouble, before anything else looks at
 * them.
 *
 * libmicrohttpd 0.9.75 takes Content-Length beside Transfer-Encoding, two Content-Lengths and two
 * Hosts, lines that end with LF alone or go on in the next, and bytes behind a NUL; any of them
 * lets a second request hide in the first when a proxy stands in front. And a web page whose name is made to resolve to 127.0.0.1 (DNS rebinding), or that simply posts across
 * origins, must not reach a daemon that trusts loopback. Loop thread.
 */
#ifndef ACCRETED_SERVER_HTTP_GUARD_H
#define ACCRETED_SERVER_HTTP_GUARD_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/config.h"

enum { GUARD_URI_BYTES = 8192, GUARD_HEADER_BYTES = 16 << 10 };

struct guard_request {
    const char *method, *version; /* of the request line, as libmicrohttpd handed them over: in its
                                   * buffer */
    const char *uri;              /* the same; its target */
    size_t uri_bytes;             /* of the target, before the query was taken apart */
    const struct config *config;  /* own address and names: allowed as Host beside loopback */
};

struct guard_verdict {
    int status; /* 0 = let it through */
    const char *code, *detail;
    bool has_body;           /* announced by its framing */
    bool chunked;
    uint64_t content_length; /* UINT64_MAX = not given */
};

void guard_check(struct MHD_Connection *mhd, const struct guard_request *req,
                 struct guard_verdict *out);

#endif
