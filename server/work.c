/*
 * work.c - uv_queue_work with plain callbacks, and a count of what is under way. Loop thread only.
 */
#include "server/work.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/err.h"

struct item {
    uv_work_t request;
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};

static int pending; /* the pool is one per process, so is its count */

int work_setup(void)
{
    char threads[16];
    snprintf(threads, sizeof threads, "%d", WORK_POOL_THREADS);
    return setenv("UV_THREADPOOL_SIZE", threads, 1) == 0 ? 0 : ERR_NOMEM;
}

static void on_work(uv_work_t *request)
{
    struct item *item = request->data;
    item->work(item->ctx);
}

static void on_done(uv_work_t *request, int status)
{
    (void)status; /* only uv_cancel makes it non-zero, and nobody cancels */
    struct item *item = request->data;
    pending--;
    item->done(item->ctx);
    free(item);
}

int work_run(uv_loop_t *loop, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx)
{
    struct item *item = malloc(sizeof *item);
    if (!item)
        return ERR_NOMEM;
    *item = (struct item){.request = {.data = item}, .work = work, .done = done, .ctx = ctx};
    if (uv_queue_work(loop, &item->request, on_work, on_done) != 0) {
        free(item);
        return ERR_NOMEM;
    }
    pending++;
    return 0;
}

int work_pending(void)
{
    return pending;
}
