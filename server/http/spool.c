/*
 * spool.c - the double buffer.
 *
 * Invariants: at most one write is under way (`writing`); it owns buffers[in_flight], the file
 * descriptor and `error` until its done callback; the loop fills the other buffer only. A spool
 * that is freed during a write lives until that write's callback.
 */
#include "server/http/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/err.h"
#include "server/work.h"

enum { BUFFER_BYTES = 1 << 20 };

struct buffer {
    uint8_t *data;
    size_t used;
};

struct spool {
    uv_loop_t *loop;
    void (*ready)(void *ctx);
    void *ctx;
    char path[4096 + 64];
    uint64_t min_free_bytes;
    int fd; /* -1 before the first write and after the last */
    struct buffer buffers[2];
    int filling, in_flight;
    bool writing;   /* a pool thread has buffers[in_flight] */
    bool last;      /* the write under way is the last */
    bool complete;  /* the file is whole and closed */
    bool abandoned; /* spool_free came during a write */
    int error;
    uint64_t size_bytes; /* taken so far */
};

int spool_new(struct spool **out, uv_loop_t *loop, const char *data_dir, uint64_t min_free_bytes,
              void (*ready)(void *ctx), void *ctx)
{
    uint64_t random[2];
    struct spool *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    *s = (struct spool){.loop = loop, .ready = ready, .ctx = ctx, .fd = -1};
    s->min_free_bytes = min_free_bytes;
    s->buffers[0].data = malloc(BUFFER_BYTES);
    s->buffers[1].data = malloc(BUFFER_BYTES);
    if (!s->buffers[0].data || !s->buffers[1].data ||
        getrandom(random, sizeof random, 0) != sizeof random) {
        spool_free(s);
        return ERR_NOMEM;
    }
    snprintf(s->path, sizeof s->path, "%s/tmp/upload-%016jx%016jx", data_dir, (uintmax_t)random[0],
             (uintmax_t)random[1]);
    *out = s;
    return 0;
}

/* ---- pool thread ---- */

static int write_all(int fd, const uint8_t *data, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? ERR_NOSPACE : ERR_IO;
        data += written;
        n -= (size_t)written;
    }
    return 0;
}

static int check_space(int fd, uint64_t wanted)
{
    struct statvfs fs;
    if (fstatvfs(fd, &fs) != 0)
        return ERR_IO;
    return (uint64_t)fs.f_bavail * fs.f_frsize >= wanted ? 0 : ERR_NOSPACE;
}

static void on_write(void *ctx)
{
    struct spool *s = ctx;
    const struct buffer *b = &s->buffers[s->in_flight];
    if (s->fd < 0)
        s->fd = open(s->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (s->fd < 0) {
        s->error = errno == ENOSPC || errno == EDQUOT ? ERR_NOSPACE : ERR_IO;
        return;
    }
    s->error = check_space(s->fd, s->min_free_bytes + b->used);
    if (s->error == 0)
        s->error = write_all(s->fd, b->data, b->used);
    if (s->last) {
        close(s->fd); /* nothing to learn: what is built from the file reads it anew */
        s->fd = -1;
    }
}

/* Closing and unlinking a large file takes longer than the loop may wait. */
static void on_remove(void *ctx)
{
    struct spool *s = ctx;
    if (s->fd >= 0)
        close(s->fd);
    unlink(s->path); /* absent where no byte came or where it was renamed away */
}

/* ---- loop thread ---- */

static void release(void *ctx)
{
    struct spool *s = ctx;
    free(s->buffers[0].data);
    free(s->buffers[1].data);
    free(s);
}

static void on_written(void *ctx)
{
    struct spool *s = ctx;
    s->writing = false;
    s->buffers[s->in_flight].used = 0;
    s->complete = s->last;
    if (s->abandoned)
        spool_free(s);
    else
        s->ready(s->ctx);
}

static void start_write(struct spool *s, bool last)
{
    s->in_flight = s->filling;
    s->last = last;
    if (work_run(s->loop, on_write, on_written, s) != 0) {
        s->error = ERR_NOMEM;
        return;
    }
    s->writing = true;
    s->filling = !s->filling;
}

/* While a write is under way its thread owns the error; it counts from the callback on. */
int spool_error(const struct spool *s)
{
    return s->writing ? 0 : s->error;
}

size_t spool_feed(struct spool *s, const void *data, size_t n)
{
    const uint8_t *from = data;
    size_t taken = 0;
    while (taken < n) {
        struct buffer *b = &s->buffers[s->filling];
        size_t room = BUFFER_BYTES - b->used;
        if (spool_error(s) != 0)
            return n;
        if (room == 0 && s->writing)
            break;
        size_t part = n - taken < room ? n - taken : room;
        memcpy(b->data + b->used, from + taken, part);
        b->used += part;
        taken += part;
        if (b->used == BUFFER_BYTES && !s->writing)
            start_write(s, false);
    }
    s->size_bytes += taken;
    return taken;
}

bool spool_finish(struct spool *s)
{
    if (s->complete || spool_error(s) != 0)
        return true;
    if (!s->writing)
        start_write(s, true); /* even of nothing: an empty body is an empty file */
    return spool_error(s) != 0;
}

void spool_free(struct spool *s)
{
    if (!s)
        return;
    s->abandoned = true;
    if (s->writing)
        return; /* on_written comes back here */
    if (!s->path[0]) {
        release(s);
    } else if (work_run(s->loop, on_remove, release, s) != 0) {
        on_remove(s); /* better a slow loop than a file that stays */
        release(s);
    }
}

const char *spool_path(const struct spool *s)
{
    return s->path;
}

uint64_t spool_size(const struct spool *s)
{
    return s->size_bytes;
}
