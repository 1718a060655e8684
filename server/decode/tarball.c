/*
 * tarball.c - libarchive, held to tar, plain or out of gzip or zstd, over memory.
 */
#include "server/decode/tarball.h"

#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/decode/archive_span.h"
#include "server/decode/unpack.h"

struct reader {
    struct archive *archive;
    struct archive_span source;
    uint64_t max_file_bytes;
    uint64_t max_total_bytes;
    uint64_t loaded_bytes; /* of files, with the holes of sparse ones */
    uint8_t *buffer; /* of the current file */
    size_t capacity;
    struct tarball_error *error;
};

static int damaged(struct reader *r, const char *what)
{
    const char *said = archive_error_string(r->archive);
    snprintf(r->error->detail, sizeof r->error->detail, "%s%s%s", what, said ? ": " : "",
             said ? said : "");
    return ERR_FORMAT;
}

static int over_limit(struct reader *r)
{
    snprintf(r->error->detail, sizeof r->error->detail,
             "it expands to more than %d times its size", TARBALL_MAX_RATIO);
    return ERR_FORMAT;
}

static int reader_open(struct reader *r)
{
    r->archive = archive_read_new();
    if (!r->archive)
        return ERR_NOMEM;
    if (archive_read_support_filter_gzip(r->archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(r->archive) != ARCHIVE_OK ||
        archive_read_support_format_tar(r->archive) != ARCHIVE_OK)
        return ERR_NOMEM;
    if (archive_span_open(r->archive, &r->source) != ARCHIVE_OK) {
        const struct span *body = &r->source.span;
        enum unpack_kind kind = unpack_sniff(body->data, body->size_bytes);
        bool packed = kind == UNPACK_GZIP || kind == UNPACK_ZSTD;
        r->error->unknown = !packed;
        return damaged(r, packed ? "damaged" : "not a tar archive");
    }
    return 0;
}

static bool total_exceeded(const struct reader *r)
{
    return (uint64_t)archive_filter_bytes(r->archive, 0) > r->max_total_bytes ||
           r->loaded_bytes > r->max_total_bytes;
}

/* Reads and drops, counting: archive_read_data_skip would inflate a bomb to its end. */
static int skip_data(struct reader *r)
{
    for (;;) {
        const void *block;
        size_t bytes;
        la_int64_t offset;
        int got = archive_read_data_block(r->archive, &block, &bytes, &offset);
        if (got == ARCHIVE_EOF)
            return 0;
        if (got < ARCHIVE_WARN)
            return damaged(r, "damaged");
        if (span_stopped(&r->source.span))
            return ERR_STOPPED;
        if (total_exceeded(r))
            return over_limit(r);
    }
}

static int load_data(struct reader *r, size_t size_bytes)
{
    if (size_bytes > r->capacity) {
        uint8_t *bigger = realloc(r->buffer, size_bytes);
        if (!bigger)
            return ERR_NOMEM;
        r->buffer = bigger;
        r->capacity = size_bytes;
    }
    r->loaded_bytes += size_bytes;
    size_t have = 0;
    while (have < size_bytes && !total_exceeded(r)) {
        la_ssize_t got = archive_read_data(r->archive, r->buffer + have, size_bytes - have);
        if (got <= 0)
            return damaged(r, "a file in it is cut short");
        have += (size_t)got;
    }
    return total_exceeded(r) ? over_limit(r) : 0;
}

static enum tarball_kind entry_kind(struct archive_entry *entry)
{
    if (archive_entry_hardlink(entry))
        return TARBALL_OTHER;
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return TARBALL_FILE;
    case AE_IFDIR:
        return TARBALL_DIRECTORY;
    default: /* libarchive's numbers, not an enum of ours */
        return TARBALL_OTHER;
    }
}

static int read_entry(struct reader *r, struct archive_entry *entry, tarball_fn fn, void *ctx)
{
    const char *path = archive_entry_pathname(entry);
    struct tarball_entry e = {.kind = entry_kind(entry), .path = path ? path : ""};
    la_int64_t declared = archive_entry_size(entry);
    if (declared < 0)
        return damaged(r, "a file in it has no size");
    if (e.kind == TARBALL_FILE) {
        e.size_bytes = (uint64_t)declared;
        int err = e.size_bytes > r->max_file_bytes ? skip_data(r) : load_data(r, e.size_bytes);
        if (err != 0)
            return err;
        if (e.size_bytes <= r->max_file_bytes)
            e.data = r->buffer;
    } else if (declared > 0) {
        int err = skip_data(r);
        if (err != 0)
            return err;
    }
    return fn(ctx, &e);
}

static int read_entries(struct reader *r, tarball_fn fn, void *ctx)
{
    for (int count = 0;; count++) {
        struct archive_entry *entry;
        int got = archive_read_next_header(r->archive, &entry);
        if (got == ARCHIVE_EOF)
            return 0;
        /* A warning is a name that does not fit the locale, which then comes as it is. */
        if (got < ARCHIVE_WARN) {
            r->error->unknown = count == 0;
            return damaged(r, count == 0 ? "not a tar archive" : "damaged");
        }
        if (span_stopped(&r->source.span))
            return ERR_STOPPED;
        if (total_exceeded(r))
            return over_limit(r);
        if (count == TARBALL_MAX_ENTRIES) {
            snprintf(r->error->detail, sizeof r->error->detail, "it has more than %d entries",
                     TARBALL_MAX_ENTRIES);
            return ERR_FORMAT;
        }
        int err = read_entry(r, entry, fn, ctx);
        if (err != 0)
            return err;
    }
}

int tarball_read(struct span body, uint64_t max_file_bytes, tarball_fn fn, void *ctx,
                 struct tarball_error *error)
{
    struct reader r = {
        .source.span = body, .max_file_bytes = max_file_bytes, .error = error};
    r.max_total_bytes = (uint64_t)body.size_bytes * TARBALL_MAX_RATIO + TARBALL_FREE_BYTES;
    memset(error, 0, sizeof *error);
    int err = reader_open(&r);
    if (err == 0)
        err = read_entries(&r, fn, ctx);
    archive_read_free(r.archive);
    free(r.buffer);
    return err;
}
