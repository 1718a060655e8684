/*
 * archive_span.h - a span as libarchive's source, in place of archive_read_open_memory.
 */
#ifndef ACCRETED_SERVER_DECODE_ARCHIVE_SPAN_H
#define ACCRETED_SERVER_DECODE_ARCHIVE_SPAN_H

#include <archive.h>

#include "server/span.h"

/* Where libarchive stands in a span; the caller's, until archive_read_free. */
struct archive_span {
    struct span span;
    size_t next_bytes; /* handed out so far */
};

/* Opens `archive`, whose filters and formats are chosen, on the span of `source`. libarchive's
 * status. */
int archive_span_open(struct archive *archive, struct archive_span *source);

#endif
