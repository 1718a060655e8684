/*
 * work.c - uv_queue_work with plain callbacks, a count of what is under way, and the steps of uploads
 * that wait for their turn. Loop thread only.
 */
#include "server/work.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/err.h"

struct item {
    uv_work_t request;
    uv_loop_t *loop;
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
    bool upload;
    struct item *next; /* that waits */
};

/* The pool is one per process, so are its counts. */
static int pending, uploads;
static struct item *waiting, *last_waiting;

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

static void on_done(uv_work_t *request, int status);

/* Does not fail: libuv refuses but a missing function. */
static void start(struct item *item)
{
    uploads += item->upload;
    uv_queue_work(item->loop, &item->request, on_work, on_done);
}

static void start_waiting(void)
{
    while (waiting && uploads < WORK_UPLOADS) {
        struct item *item = waiting;
        waiting = item->next;
        start(item);
    }
}

static void on_done(uv_work_t *request, int status)
{
    (void)status; /* only uv_cancel makes it non-zero, and nobody cancels */
    struct item *item = request->data;
    pending--;
    uploads -= item->upload;
    start_waiting(); /* before `done`, whose next step comes behind those that wait */
    item->done(item->ctx);
    free(item);
}

static struct item *item_new(uv_loop_t *loop, void (*work)(void *ctx), void (*done)(void *ctx),
                             void *ctx)
{
    struct item *item = malloc(sizeof *item);
    if (!item)
        return NULL;
    *item = (struct item){
        .request = {.data = item}, .loop = loop, .work = work, .done = done, .ctx = ctx};
    pending++;
    return item;
}

int work_run(uv_loop_t *loop, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx)
{
    struct item *item = item_new(loop, work, done, ctx);
    if (!item)
        return ERR_NOMEM;
    start(item);
    return 0;
}

int work_run_upload(uv_loop_t *loop, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx)
{
    struct item *item = item_new(loop, work, done, ctx);
    if (!item)
        return ERR_NOMEM;
    item->upload = true;
    if (waiting)
        last_waiting->next = item;
    else
        waiting = item;
    last_waiting = item;
    start_waiting();
    return 0;
}

int work_pending(void)
{
    return pending;
}
