/*
 * spool.h - a request body on its way to a file, through two buffers of 1 MiB.
 *
 * The loop fills one buffer while a pool thread writes the other. Loop thread only; nothing here
 * blocks. The file is not made durable: what is built from it is.
 */
#ifndef ACCRETED_SERVER_HTTP_SPOOL_H
#define ACCRETED_SERVER_HTTP_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct spool;

/* A file data_dir/tmp/upload-<random>, made with the first write. Writing stops with ERR_NOSPACE
 * before the file system has less than `min_free_bytes` left. `ready(ctx)` is called on the loop
 * whenever a write ended. Errors: ERR_NOMEM. */
int spool_new(struct spool **out, uv_loop_t *loop, const char *data_dir, uint64_t min_free_bytes,
              void (*ready)(void *ctx), void *ctx);
/* Gives up whatever is under way and removes the file, unless it was renamed away; `ready` is not
 * called any more. */
void spool_free(struct spool *s);

/* Takes up to n bytes and returns how many; fewer mean: again after `ready`. After an error it
 * takes and drops all. */
size_t spool_feed(struct spool *s, const void *data, size_t n);
/* No more will come. True: the file is complete, or failed; false: ask again after `ready`. */
bool spool_finish(struct spool *s);

/* 0, ERR_NOSPACE, ERR_IO or ERR_NOMEM. */
int spool_error(const struct spool *s);
const char *spool_path(const struct spool *s);
uint64_t spool_size(const struct spool *s);

#endif
