/*
 * work.h - the libuv worker pool, fenced.
 *
 * Short work (decoding, spooling, predictions) and the long training job share libuv's pool. One
 * slot's worth of long work is admitted at a time by server/jobs/queue.c, and the pool has
 * WORK_POOL_THREADS threads, so short work always finds a thread. work_setup must run before the
 * first use of the pool.
 */
#ifndef ACCRETED_SERVER_WORK_H
#define ACCRETED_SERVER_WORK_H

#include <uv.h>

enum { WORK_POOL_THREADS = 8 };

/* Sets UV_THREADPOOL_SIZE. Returns 0 or ERR_NOMEM. */
int work_setup(void);

/* Runs `work(ctx)` on a pool thread, then `done(ctx)` on the loop. Loop thread only. Errors:
 * ERR_NOMEM; then neither is called. */
int work_run(uv_loop_t *loop, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx);

/* Items given and not done yet; main.c waits for 0 at shutdown. */
int work_pending(void);

#endif
