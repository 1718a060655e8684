/*
 * container.h - the one file format under models, snapshots and checkpoints, and durable writing.
 *
 * A container is a header (magic "ACCRETED", format version, kind, section count, total length),
 * a table of sections (id, offset, length, XXH3-64 of the contents), the XXH3-64 of header and
 * table, then the sections, each 64-byte aligned. All integers little-endian. Readers check
 * every length before they allocate and every checksum before they hand out a byte;
 * SNAPSHOT_FORMAT.md in core/m2kd specifies it byte by byte.
 *
 * Writing is durable: temporary file in the same directory (O_EXCL), write, fsync, rename, fsync
 * of the directory. A crash at any instruction leaves the old file or the new one, and perhaps
 * a temporary file "<path>.<six characters>.tmp", which whoever owns the directory may delete
 * when no writer runs. An fsync that failed once is never retried: the temporary file is removed
 * and ERR_IO or ERR_NOSPACE returned.
 *
 * Functions may be called from any thread; all of them but container_find* block on the disk.
 */
#ifndef ACCRETED_CORE_STORAGE_CONTAINER_H
#define ACCRETED_CORE_STORAGE_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

enum container_kind { CONTAINER_MODEL = 1, CONTAINER_SNAPSHOT = 2, CONTAINER_CHECKPOINT = 3 };

enum { CONTAINER_MAX_SECTIONS = 32 };
#define CONTAINER_MAX_BYTES ((uint64_t)4 << 30)

struct container_section {
    uint32_t id;        /* four characters, CONTAINER_ID('S','P','E','C') */
    uint64_t size_bytes;
    const void *data;   /* borrowed when writing (may be NULL if empty); inside the reader's
                         * buffer, 64-byte aligned, when reading */
};

#define CONTAINER_ID(a, b, c, d) \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* Writes the sections as one container file, durably. Blocks on the disk. `out_bytes` (may be
 * NULL) receives the file's size. Errors: ERR_INVALID (count outside 0..CONTAINER_MAX_SECTIONS,
 * an id twice, file over CONTAINER_MAX_BYTES), ERR_NOMEM, ERR_IO, ERR_NOSPACE; errno as the
 * failed call left it. After an error the old file still stands, unless only the very last
 * step, the fsync of the directory, failed. */
int container_write(const char *path, enum container_kind kind,
                    const struct container_section *sections, int count, uint64_t *out_bytes);

struct container; /* a file read whole and verified */

/* Reads and verifies. Errors: ERR_MISSING, ERR_IO, ERR_NOMEM, ERR_FORMAT (magic, version or kind),
 * ERR_CORRUPT (length or checksum). */
int container_read(struct container **out, const char *path, enum container_kind kind);
void container_free(struct container *c); /* NULL is fine */

/* A number that two files share only if all their sections are the same: the XXH3-64 of header and table. */
uint64_t container_identity(const struct container *c);

/* The section with `id`, borrowed until container_free. ERR_FORMAT when absent. */
int container_find(const struct container *c, uint32_t id, struct container_section *out);
/* Same, and its size must be exactly `size_bytes`. */
int container_find_sized(const struct container *c, uint32_t id, uint64_t size_bytes,
                         const void **out);

/* All sections, in their order in the file, as container_find gives them; how many. */
int container_sections(const struct container *c,
                       struct container_section out[CONTAINER_MAX_SECTIONS]);

/* fsync of the directory that holds `path`. Errors: ERR_IO, ERR_NOSPACE, ERR_NOMEM. */
int durable_sync_parent(const char *path);
/* rename(from, to) and fsync of the directory of `to`; `from` must have been fsynced. Errors as
 * durable_sync_parent. */
int durable_rename(const char *from, const char *to);

#endif
