/*
 * tarball.h - the entries of a tar archive, plain or out of gzip or zstd.
 *
 * Nothing is ever extracted by name: a name is only data handed to the callback, which judges it.
 * Tar (ustar, pax, GNU), gzip and zstd are the only formats switched on. Bounded: TARBALL_MAX_ENTRIES,
 * one file at a time in memory, and what a compressed stream may grow to. Any thread; no globals.
 */
#ifndef ACCRETED_SERVER_DECODE_TARBALL_H
#define ACCRETED_SERVER_DECODE_TARBALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/span.h"

enum { TARBALL_MAX_ENTRIES = 1000000 };
/* Decompressed bytes allowed: this many times the body, and a little for small ones. */
enum { TARBALL_MAX_RATIO = 200, TARBALL_FREE_BYTES = 64 << 20 };

enum tarball_kind { TARBALL_FILE, TARBALL_DIRECTORY, TARBALL_OTHER /* link, device, fifo */ };

struct tarball_entry {
    enum tarball_kind kind;
    const char
        *path; /* as in the archive, not checked, maybe no UTF-8; "" when it cannot be read */
    const uint8_t *data; /* of a file; NULL when it is over the limit */
    uint64_t size_bytes;
};

/* Why an archive was refused. */
struct tarball_error {
    bool unknown;     /* its beginning is no tar archive; else it is damaged or over a limit */
    char detail[256];
};

/* Called for every entry in turn; a negative return ends the reading and is returned. */
typedef int (*tarball_fn)(void *ctx, const struct tarball_entry *entry);

/* Files over `max_file_bytes` are passed without their data. Returns 0, the callback's error,
 * ERR_NOMEM, ERR_STOPPED (span.h), or ERR_FORMAT with *error filled. */
int tarball_read(struct span body, uint64_t max_file_bytes, tarball_fn fn, void *ctx,
                 struct tarball_error *error);

#endif
