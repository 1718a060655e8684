/*
 * work.h - the libuv worker pool, fenced.
 *
 * Short work (an image's decoding, spooling, predictions, loading and writing a model) and long work
 * share libuv's pool. Long work is admitted by number: one job (jobs/queue.c), one change of classes
 * (api/classes.c), and WORK_UPLOADS steps of uploads, which are given by work_run_upload and wait
 * for their turn. So of the WORK_POOL_THREADS threads three are always left to short work.
 * work_setup must run before the first use of the pool.
 */
#ifndef ACCRETED_SERVER_WORK_H
#define ACCRETED_SERVER_WORK_H

#include <uv.h>

enum { WORK_POOL_THREADS = 8, WORK_UPLOADS = 3 };

/* Sets UV_THREADPOOL_SIZE. Returns 0 or ERR_NOMEM. */
int work_setup(void);

/* Runs `work(ctx)` on a pool thread, then `done(ctx)` on the loop. Loop thread only. Errors:
 * ERR_NOMEM; then neither is called. */
int work_run(uv_loop_t *loop, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx);

/* The same for a step that goes through a whole upload, which may take minutes: of these WORK_UPLOADS
 * run at once, and the others wait, first come, first served. An item that was given is never taken
 * back: when the daemon stops its turn comes too, and its work is to look at app->stopping. */
int work_run_upload(uv_loop_t *loop, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx);

/* Items given and not done yet, those that wait for their turn too; main.c waits for 0 at shutdown. */
int work_pending(void);

#endif
