/*
 * multipart.h - the parts of a multipart/form-data body (RFC 7578) that lies whole in memory.
 *
 * The body may be a mapped spool file or a request's memory: parts point into it, nothing is copied
 * but the three short header values. Strict: the body begins with the boundary and ends with the
 * closing one, every line of a header ends with CRLF, every part is form-data and has a name; else
 * the whole body is refused. Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_DECODE_MULTIPART_H
#define ACCRETED_SERVER_DECODE_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/span.h"

struct multipart_part {
    char name[64];
    char filename[256];     /* as sent, bytes of the client's choosing; "" when absent */
    char content_type[128]; /* "" when absent */
    const uint8_t *data;    /* borrowed from the body */
    size_t size_bytes;
};

/* A reader; plain data on the caller's stack, nothing to release. */
struct multipart {
    struct span body;
    const uint8_t *at, *end;
    char delimiter[76]; /* CRLF, two dashes, the boundary of 1..70 characters */
    size_t delimiter_bytes;
};

/* Whether `content_type` (may be NULL) is multipart/form-data. */
bool multipart_accepts(const char *content_type);

/* ERR_FORMAT: not multipart/form-data, no valid boundary, or the body does not begin with it. */
int multipart_init(struct multipart *m, const char *content_type, struct span body);

/* The next part. Returns 1, 0 after the last one, or ERR_FORMAT (then the reader is spent). */
int multipart_next(struct multipart *m, struct multipart_part *part);

#endif
