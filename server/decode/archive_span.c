/*
 * archive_span.c - see archive_span.h.
 */
#include "server/decode/archive_span.h"

enum { BLOCK_BYTES = 1 << 18 };

/* The block before this one is done with: libarchive copies what it still needs of it. */
static la_ssize_t read_block(struct archive *archive, void *ctx, const void **block)
{
    (void)archive;
    struct archive_span *source = ctx;
    struct span *span = &source->span;
    const uint8_t *at = span->data + source->next_bytes;
    size_t left = span->size_bytes - source->next_bytes;
    size_t bytes = left < BLOCK_BYTES ? left : BLOCK_BYTES;
    if (span_stopped(span))
        return -1;
    span_passed(span, at);
    source->next_bytes += bytes;
    *block = at;
    return (la_ssize_t)bytes;
}

int archive_span_open(struct archive *archive, struct archive_span *source)
{
    return archive_read_open(archive, source, NULL, read_block, NULL);
}
