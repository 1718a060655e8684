/*
 * queue.h - the jobs: states, order, recovery; one trains at a time.
 *
 *   queued --> running --> succeeded            terminal states are final; every change is a
 *     |  ^        |  \---> failed               compare-and-set in SQLite
 *     |  |        v
 *     |  +--(restart: attempt+1)   running --> cancelling --> cancelled
 *     +-----------------------------------------------------> cancelled
 *
 * Loop thread only. The training itself is worker.c's, on the libuv pool.
 */
#ifndef ACCRETED_SERVER_JOBS_QUEUE_H
#define ACCRETED_SERVER_JOBS_QUEUE_H

#include <jansson.h>
#include <stdint.h>

struct app;
struct queue;

int queue_new(struct queue **out, struct app *app);
/* Recovers jobs a crash left running (start-up, blocks), then starts the oldest queued one. Three
 * attempts without progress: failed, `crash_loop`. */
int queue_start(struct queue *q);
/* Asks the running job to stop at its next checkpoint-safe point; it stays `running` in the
 * database and goes on after the next start. `done` is called on the loop once nothing runs. */
void queue_stop(struct queue *q, void (*done)(void *ctx), void *ctx);
void queue_free(struct queue *q);

/* A new job was committed, or one ended, or a change of classes: start the next if none runs. While
 * classes change none starts: it would read files that are being rewritten. */
void queue_kick(struct queue *q);
/* The job that runs, 0: none. */
int64_t queue_running(const struct queue *q);
/* `ended(ctx)` is called on the loop when a job has ended in every respect: what it published
 * serves. One watcher. */
void queue_watch(struct queue *q, void (*ended)(void *ctx), void *ctx);
/* Asks job `id` to end; 0, or ERR_INVALID when it is not the running one. */
int queue_cancel_running(struct queue *q, int64_t id);
/* The live part of a running job: phase, progress, eta_seconds, images_per_second; NULL when `id`
 * is not running. New reference. */
json_t *queue_live(struct queue *q, int64_t id);

#endif
