/*
 * unpack.h - a body in memory as a stream of bytes: as it is, or out of gzip, zstd or xz.
 *
 * Strict: what is compressed must be whole, its checksums right, and nothing may follow it but more
 * of the same kind. Bounded: UNPACK_MAX_RATIO bytes for each one of the body (and UNPACK_FREE_BYTES
 * for small ones), and a window of 128 MiB (zstd) or 80 MiB of memory (xz, enough for xz -9). Any
 * thread; no globals.
 */
#ifndef ACCRETED_SERVER_DECODE_UNPACK_H
#define ACCRETED_SERVER_DECODE_UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include "server/span.h"

enum { UNPACK_MAX_RATIO = 200, UNPACK_FREE_BYTES = 64 << 20 };

enum unpack_kind { UNPACK_PLAIN, UNPACK_GZIP, UNPACK_ZSTD, UNPACK_XZ };

struct unpack;

/* By the first bytes. */
enum unpack_kind unpack_sniff(const void *data, size_t size_bytes);

/* The body is borrowed until unpack_free. ERR_NOMEM. */
int unpack_new(struct unpack **out, struct span body);
void unpack_free(struct unpack *u); /* NULL is fine */

/* Fills `to` with `bytes` bytes; *got is fewer only at the end. ERR_FORMAT with *why (static text);
 * ERR_NOMEM; ERR_STOPPED (span.h). Not to be called again after an error. */
int unpack_read(struct unpack *u, void *to, size_t bytes, size_t *got, const char **why);

#endif
