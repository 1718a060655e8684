/*
 * unpack.c - zlib, libzstd and liblzma behind one function: all three check what they unpack, which
 * libarchive's filters do not.
 */
#include "server/decode/unpack.h"

#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/err.h"

enum { XZ_MEMORY_BYTES = 80 << 20, GZIP_WINDOW = 15 + 16 /* zlib: gzip alone */ };
enum { FEED_BYTES = 1 << 20 }; /* given to a library at once */

struct unpack {
    enum unpack_kind kind;
    struct span body;
    const uint8_t *at, *end;
    uint64_t left_bytes;   /* that may still come out */
    bool over;             /* the last stream has ended */
    z_stream gzip;
    ZSTD_DStream *zstd;
    lzma_stream xz;
};

enum unpack_kind unpack_sniff(const void *data, size_t size_bytes)
{
    if (size_bytes >= 2 && memcmp(data, "\x1f\x8b", 2) == 0)
        return UNPACK_GZIP;
    if (size_bytes >= 4 && memcmp(data, "\x28\xb5\x2f\xfd", 4) == 0)
        return UNPACK_ZSTD;
    if (size_bytes >= 6 && memcmp(data, "\xfd" "7zXZ", 6) == 0)
        return UNPACK_XZ;
    return UNPACK_PLAIN;
}

static bool start(struct unpack *u)
{
    switch (u->kind) {
    case UNPACK_PLAIN:
        return true;
    case UNPACK_GZIP:
        return inflateInit2(&u->gzip, GZIP_WINDOW) == Z_OK;
    case UNPACK_ZSTD:
        u->zstd = ZSTD_createDStream();
        return u->zstd != NULL;
    case UNPACK_XZ:
        return lzma_stream_decoder(&u->xz, XZ_MEMORY_BYTES, LZMA_CONCATENATED) == LZMA_OK;
    }
    return false;
}

int unpack_new(struct unpack **out, struct span body)
{
    struct unpack *u = calloc(1, sizeof *u);
    if (!u)
        return ERR_NOMEM;
    u->kind = unpack_sniff(body.data, body.size_bytes);
    u->body = body;
    u->at = body.data;
    u->end = u->at + body.size_bytes;
    u->left_bytes = (uint64_t)body.size_bytes * UNPACK_MAX_RATIO + UNPACK_FREE_BYTES;
    u->xz = (lzma_stream)LZMA_STREAM_INIT;
    if (!start(u)) {
        free(u);
        return ERR_NOMEM;
    }
    *out = u;
    return 0;
}

void unpack_free(struct unpack *u)
{
    if (!u)
        return;
    if (u->kind == UNPACK_GZIP)
        inflateEnd(&u->gzip);
    ZSTD_freeDStream(u->zstd);
    lzma_end(&u->xz);
    free(u);
}

static size_t next_feed(const struct unpack *u)
{
    size_t have = (size_t)(u->end - u->at);
    return have < FEED_BYTES ? have : FEED_BYTES;
}

/* Each reads on from u->at, writes up to `bytes` (at most FEED_BYTES) to `to` and says how many in
 * *got; none written and nothing read means that the body ends too early. */

static int read_plain(struct unpack *u, uint8_t *to, size_t bytes, size_t *got)
{
    size_t have = (size_t)(u->end - u->at);
    *got = bytes < have ? bytes : have;
    memcpy(to, u->at, *got);
    u->at += *got;
    u->over = u->at == u->end;
    return 0;
}

static int read_gzip(struct unpack *u, uint8_t *to, size_t bytes, size_t *got)
{
    u->gzip.next_in = (Bytef *)(uintptr_t)u->at;
    u->gzip.avail_in = (uInt)next_feed(u);
    u->gzip.next_out = to;
    u->gzip.avail_out = (uInt)bytes;
    int rc = inflate(&u->gzip, Z_NO_FLUSH);
    u->at = u->gzip.next_in;
    *got = bytes - u->gzip.avail_out;
    if (rc == Z_STREAM_END) { /* another member may follow */
        u->over = u->at == u->end;
        return u->over || inflateReset(&u->gzip) == Z_OK ? 0 : ERR_FORMAT;
    }
    if (rc == Z_MEM_ERROR)
        return ERR_NOMEM;
    return rc == Z_OK ? 0 : ERR_FORMAT;
}

static int read_zstd(struct unpack *u, uint8_t *to, size_t bytes, size_t *got)
{
    ZSTD_inBuffer in = {u->at, next_feed(u), 0};
    ZSTD_outBuffer out = {to, bytes, 0};
    size_t rc = ZSTD_decompressStream(u->zstd, &out, &in);
    u->at += in.pos;
    *got = out.pos;
    if (ZSTD_isError(rc))
        return ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation ? ERR_NOMEM : ERR_FORMAT;
    u->over = rc == 0 && u->at == u->end;
    return 0;
}

static int read_xz(struct unpack *u, uint8_t *to, size_t bytes, size_t *got)
{
    u->xz.next_in = u->at;
    u->xz.avail_in = next_feed(u);
    u->xz.next_out = to;
    u->xz.avail_out = bytes;
    bool last = u->xz.avail_in == (size_t)(u->end - u->at);
    lzma_ret rc = lzma_code(&u->xz, last ? LZMA_FINISH : LZMA_RUN);
    u->at = u->xz.next_in;
    *got = bytes - u->xz.avail_out;
    u->over = rc == LZMA_STREAM_END;
    if (rc == LZMA_MEM_ERROR)
        return ERR_NOMEM;
    return rc == LZMA_OK || rc == LZMA_STREAM_END ? 0 : ERR_FORMAT;
}

static int read_some(struct unpack *u, uint8_t *to, size_t bytes, size_t *got)
{
    switch (u->kind) {
    case UNPACK_PLAIN:
        return read_plain(u, to, bytes, got);
    case UNPACK_GZIP:
        return read_gzip(u, to, bytes, got);
    case UNPACK_ZSTD:
        return read_zstd(u, to, bytes, got);
    case UNPACK_XZ:
        return read_xz(u, to, bytes, got);
    }
    return ERR_FORMAT;
}

int unpack_read(struct unpack *u, void *to, size_t bytes, size_t *got, const char **why)
{
    size_t have = 0;
    while (have < bytes && !u->over) {
        const uint8_t *before = u->at;
        size_t some, wanted = bytes - have < FEED_BYTES ? bytes - have : FEED_BYTES;
        int err = read_some(u, (uint8_t *)to + have, wanted, &some);
        if (err == 0 && some == 0 && u->at == before && !u->over)
            err = ERR_FORMAT;
        *why = "the compressed data is damaged, cut short or followed by something else";
        if (err == 0 && some > u->left_bytes) {
            *why = "the compressed data expands to more than 200 times its size";
            err = ERR_FORMAT;
        }
        if (err == 0 && span_stopped(&u->body))
            err = ERR_STOPPED;
        if (err != 0)
            return err;
        span_passed(&u->body, u->at);
        u->left_bytes -= some;
        have += some;
    }
    *got = have;
    return 0;
}
