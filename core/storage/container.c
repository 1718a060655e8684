/*
 * container.c - reading, verifying and durably writing container files; see container.h.
 *
 * The layout leaves a writer no choice: sections follow each other in table order, each at the
 * next multiple of 64, with zeros between. So a reader can check every byte of a file, and any
 * single one that changed is noticed.
 */
#include "core/storage/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/err.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "files hold little-endian numbers and are read in place"
#endif

enum { FORMAT_VERSION = 1, ALIGNMENT = 64 };

static const char magic[8] = {'A', 'C', 'C', 'R', 'E', 'T', 'E', 'D'};
static const char temporary_suffix[] = ".XXXXXX.tmp";

struct file_header {
    char magic[8];
    uint32_t version, kind, section_count, zero;
    uint64_t total_bytes;
};

struct file_section {
    uint32_t id, zero;
    uint64_t offset, size_bytes, hash;
};

_Static_assert(sizeof(struct file_header) == 32, "the header is 32 bytes in the file");
_Static_assert(sizeof(struct file_section) == 32, "a table row is 32 bytes in the file");

/* What stands before the sections, at its largest; `count` rows are used, then the checksum. */
struct preamble {
    struct file_header header;
    struct file_section rows[CONTAINER_MAX_SECTIONS];
    uint64_t room_for_hash;
};

struct container {
    unsigned char *bytes; /* the whole file, 64-byte aligned */
    const struct file_section *rows;
    uint32_t count;
};

static size_t preamble_bytes(uint32_t count)
{
    return sizeof(struct file_header) + count * sizeof(struct file_section) + sizeof(uint64_t);
}

static uint64_t align_up(uint64_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int io_error(void)
{
    return errno == ENOSPC || errno == EDQUOT ? ERR_NOSPACE : ERR_IO;
}

/* Writing */

static int write_all(int fd, const void *data, uint64_t size_bytes)
{
    const unsigned char *p = data;
    while (size_bytes > 0) {
        ssize_t n = write(fd, p, size_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_error();
        p += n;
        size_bytes -= (uint64_t)n;
    }
    return 0;
}

/* Fills header and table; returns ERR_INVALID where the sections make no valid file. */
static int lay_out(struct preamble *pre, enum container_kind kind,
                   const struct container_section *sections, int count)
{
    if (count < 0 || count > CONTAINER_MAX_SECTIONS)
        return ERR_INVALID;
    memset(pre, 0, sizeof *pre);
    uint64_t end = preamble_bytes((uint32_t)count);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < i; k++)
            if (sections[k].id == sections[i].id)
                return ERR_INVALID;
        if (sections[i].size_bytes > CONTAINER_MAX_BYTES)
            return ERR_INVALID;
        uint64_t offset = align_up(end);
        end = offset + sections[i].size_bytes;
        pre->rows[i] = (struct file_section){
            .id = sections[i].id,
            .offset = offset,
            .size_bytes = sections[i].size_bytes,
            .hash = XXH3_64bits(sections[i].data, sections[i].size_bytes),
        };
    }
    if (end > CONTAINER_MAX_BYTES)
        return ERR_INVALID;
    memcpy(pre->header.magic, magic, sizeof magic);
    pre->header.version = FORMAT_VERSION;
    pre->header.kind = kind;
    pre->header.section_count = (uint32_t)count;
    pre->header.total_bytes = end;
    size_t hashed = preamble_bytes((uint32_t)count) - sizeof(uint64_t);
    uint64_t hash = XXH3_64bits(pre, hashed);
    memcpy((unsigned char *)pre + hashed, &hash, sizeof hash);
    return 0;
}

static int write_contents(int fd, const struct preamble *pre,
                          const struct container_section *sections)
{
    static const unsigned char zeros[ALIGNMENT];
    uint32_t count = pre->header.section_count;
    uint64_t at = preamble_bytes(count);
    int err = write_all(fd, pre, at);
    for (uint32_t i = 0; i < count && !err; i++) {
        err = write_all(fd, zeros, pre->rows[i].offset - at);
        if (!err)
            err = write_all(fd, sections[i].data, sections[i].size_bytes);
        at = pre->rows[i].offset + pre->rows[i].size_bytes;
    }
    return err;
}

/* Creates `temporary` (its XXXXXX is replaced), writes and fsyncs it. On an error it is gone. */
static int write_temporary(char *temporary, const struct preamble *pre,
                           const struct container_section *sections)
{
    int fd = mkostemps(temporary, (int)strlen(".tmp"), O_CLOEXEC);
    if (fd < 0)
        return io_error();
    int err = write_contents(fd, pre, sections);
    if (!err && fsync(fd) != 0)
        err = io_error();
    int saved_errno = errno;
    if (close(fd) != 0 && !err) {
        saved_errno = errno;
        err = io_error();
    }
    if (err)
        unlink(temporary);
    errno = saved_errno;
    return err;
}

int container_write(const char *path, enum container_kind kind,
                    const struct container_section *sections, int count, uint64_t *out_bytes)
{
    struct preamble pre;
    int err = lay_out(&pre, kind, sections, count);
    if (err)
        return err;
    size_t room = strlen(path) + sizeof temporary_suffix;
    char *temporary = malloc(room);
    if (!temporary)
        return ERR_NOMEM;
    snprintf(temporary, room, "%s%s", path, temporary_suffix);

    err = write_temporary(temporary, &pre, sections);
    if (err)
        goto out;
    if (rename(temporary, path) != 0) {
        int saved_errno = errno;
        err = io_error();
        unlink(temporary);
        errno = saved_errno;
        goto out;
    }
    err = durable_sync_parent(path);
    if (!err && out_bytes)
        *out_bytes = pre.header.total_bytes;
out:
    free(temporary);
    return err;
}

int durable_sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!parent)
        return ERR_NOMEM;
    int err = 0, fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (fd < 0)
        return io_error();
    if (fsync(fd) != 0)
        err = io_error();
    int saved_errno = errno;
    close(fd);
    errno = saved_errno;
    return err;
}

int durable_rename(const char *from, const char *to)
{
    if (rename(from, to) != 0)
        return io_error();
    return durable_sync_parent(to);
}

/* Reading */

static int read_all(int fd, void *data, uint64_t size_bytes)
{
    unsigned char *p = data;
    while (size_bytes > 0) {
        ssize_t n = read(fd, p, size_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ERR_IO;
        if (n == 0)
            return ERR_CORRUPT; /* shorter than it was a moment ago */
        p += n;
        size_bytes -= (uint64_t)n;
    }
    return 0;
}

/* The header against the kind asked for and the file's true length, before anything is allocated
 * by it. */
static int check_header(const struct file_header *h, enum container_kind kind, uint64_t file_bytes)
{
    if (memcmp(h->magic, magic, sizeof magic) != 0 || h->version != FORMAT_VERSION ||
        h->kind != (uint32_t)kind || h->zero != 0)
        return ERR_FORMAT;
    if (h->section_count > CONTAINER_MAX_SECTIONS || h->total_bytes != file_bytes ||
        file_bytes > CONTAINER_MAX_BYTES || file_bytes < preamble_bytes(h->section_count))
        return ERR_CORRUPT;
    return 0;
}

static bool all_zero(const unsigned char *bytes, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* The section of row `i`, which must begin at the first multiple of 64 from `at`. */
static int check_section(const struct container *c, uint32_t i, uint64_t at, uint64_t file_bytes)
{
    const struct file_section *row = &c->rows[i];
    if (row->zero != 0 || row->offset != align_up(at) || row->offset > file_bytes ||
        row->size_bytes > file_bytes - row->offset || !all_zero(c->bytes, at, row->offset))
        return ERR_CORRUPT;
    if (XXH3_64bits(c->bytes + row->offset, row->size_bytes) != row->hash)
        return ERR_CORRUPT;
    for (uint32_t k = 0; k < i; k++)
        if (c->rows[k].id == row->id)
            return ERR_CORRUPT;
    return 0;
}

static int check_contents(const struct container *c, uint64_t file_bytes)
{
    size_t hashed = preamble_bytes(c->count) - sizeof(uint64_t);
    uint64_t hash, at = preamble_bytes(c->count);
    memcpy(&hash, c->bytes + hashed, sizeof hash);
    if (XXH3_64bits(c->bytes, hashed) != hash)
        return ERR_CORRUPT;
    for (uint32_t i = 0; i < c->count; i++) {
        int err = check_section(c, i, at, file_bytes);
        if (err)
            return err;
        at = c->rows[i].offset + c->rows[i].size_bytes;
    }
    return at == file_bytes ? 0 : ERR_CORRUPT;
}

static int read_verified(struct container *c, int fd, enum container_kind kind)
{
    struct stat st;
    struct file_header header;
    if (fstat(fd, &st) != 0)
        return ERR_IO;
    if (!S_ISREG(st.st_mode))
        return ERR_FORMAT;
    uint64_t file_bytes = (uint64_t)st.st_size;
    if (file_bytes < sizeof header)
        return ERR_CORRUPT;
    int err = read_all(fd, &header, sizeof header);
    if (!err)
        err = check_header(&header, kind, file_bytes);
    if (err)
        return err;

    c->bytes = aligned_alloc(ALIGNMENT, align_up(file_bytes));
    if (!c->bytes)
        return ERR_NOMEM;
    memcpy(c->bytes, &header, sizeof header);
    err = read_all(fd, c->bytes + sizeof header, file_bytes - sizeof header);
    if (err)
        return err;
    c->rows = (const struct file_section *)(c->bytes + sizeof header);
    c->count = header.section_count;
    return check_contents(c, file_bytes);
}

int container_read(struct container **out, const char *path, enum container_kind kind)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a FIFO must not hang us */
    if (fd < 0)
        return errno == ENOENT ? ERR_MISSING : ERR_IO;
    struct container *c = calloc(1, sizeof *c);
    int err = c ? read_verified(c, fd, kind) : ERR_NOMEM;
    int saved_errno = errno;
    close(fd);
    errno = saved_errno;
    if (err) {
        container_free(c);
        return err;
    }
    *out = c;
    return 0;
}

void container_free(struct container *c)
{
    if (!c)
        return;
    free(c->bytes);
    free(c);
}

uint64_t container_identity(const struct container *c)
{
    uint64_t sum;
    memcpy(&sum, c->bytes + preamble_bytes(c->count) - sizeof sum, sizeof sum);
    return sum;
}

int container_find(const struct container *c, uint32_t id, struct container_section *out)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->rows[i].id != id)
            continue;
        *out = (struct container_section){id, c->rows[i].size_bytes,
                                          c->bytes + c->rows[i].offset};
        return 0;
    }
    return ERR_FORMAT;
}

int container_find_sized(const struct container *c, uint32_t id, uint64_t size_bytes,
                         const void **out)
{
    struct container_section s;
    int err = container_find(c, id, &s);
    if (err)
        return err;
    if (s.size_bytes != size_bytes)
        return ERR_FORMAT;
    *out = s.data;
    return 0;
}

int container_sections(const struct container *c,
                       struct container_section out[CONTAINER_MAX_SECTIONS])
{
    for (uint32_t i = 0; i < c->count; i++)
        out[i] = (struct container_section){c->rows[i].id, c->rows[i].size_bytes,
                                            c->bytes + c->rows[i].offset};
    return (int)c->count;
}
