/*
 * queue.c - see queue.h: at most one worker, started for the oldest queued job.
 */
#include "server/jobs/queue.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/err.h"
#include "server/app.h"
#include "server/jobs/predictor.h"
#include "server/jobs/recovery.h"
#include "server/jobs/worker.h"
#include "server/log.h"

struct queue {
    struct app *app;
    struct worker *running; /* NULL: nothing runs */
    bool stopping;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
    void (*watch)(void *ctx); /* NULL: nobody */
    void *watch_ctx;
};

int queue_new(struct queue **out, struct app *app)
{
    struct queue *q = calloc(1, sizeof *q);
    if (!q)
        return ERR_NOMEM;
    q->app = app;
    *out = q;
    return 0;
}

void queue_free(struct queue *q)
{
    free(q);
}

/* ---- start ---- */

static int write_recovery(struct db_txn *t, void *ctx)
{
    (void)ctx;
    return recovery_jobs(t);
}

int queue_start(struct queue *q)
{
    int err = db_write_wait(q->app->db, write_recovery, NULL); /* the loop does not turn yet */
    if (err)
        return err;
    recovery_sweep(q->app->db, q->app->config.data_dir);
    queue_kick(q);
    return 0;
}

/* ---- one after the other ---- */

static void on_worker_done(void *ctx, struct worker *w)
{
    struct queue *q = ctx;
    struct serving *serving = worker_take_serving(w);
    if (serving)
        predictor_swap_committed(q->app->predictor, serving);
    q->running = NULL;
    worker_free(w);
    if (q->watch)
        q->watch(q->watch_ctx);
    if (q->stopping && q->stopped)
        q->stopped(q->stopped_ctx);
    else
        queue_kick(q);
}

void queue_kick(struct queue *q)
{
    int64_t id;
    if (q->running || q->stopping || q->app->class_changes) /* whoever ends it kicks */
        return;
    int err = jobs_next(db_reader(q->app->db), &id);
    if (!err)
        err = worker_start(&q->running, q->app, id, on_worker_done, q);
    if (err && err != ERR_MISSING)
        log_error("the next job cannot start: %s", err_str(err));
}

int64_t queue_running(const struct queue *q)
{
    return q->running ? worker_job(q->running) : 0;
}

void queue_watch(struct queue *q, void (*ended)(void *ctx), void *ctx)
{
    q->watch = ended;
    q->watch_ctx = ctx;
}

int queue_cancel_running(struct queue *q, int64_t id)
{
    if (!q->running || worker_job(q->running) != id)
        return ERR_INVALID;
    worker_command(q->running, COMMAND_CANCEL);
    return 0;
}

json_t *queue_live(struct queue *q, int64_t id)
{
    if (!q->running || worker_job(q->running) != id)
        return NULL;
    return worker_live(q->running);
}

void queue_stop(struct queue *q, void (*done)(void *ctx), void *ctx)
{
    q->stopping = true;
    q->stopped = done;
    q->stopped_ctx = ctx;
    if (q->running)
        worker_command(q->running, COMMAND_STOP);
    else
        done(ctx);
}
