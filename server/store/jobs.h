/*
 * jobs.h - rows of the jobs: their states, options and loss curves.
 *
 * Which change of state is allowed stands in server/jobs/queue.h and, as a trigger, in the schema.
 * Every change here is a compare-and-set: it names the state it leaves and fails with ERR_INVALID,
 * changing nothing, when the row is in another one. Each writes a line of the job's log.
 *
 * Functions take the connection: db_reader() on the loop for those that read, or the txn of a write
 * function.
 */
#ifndef ACCRETED_SERVER_STORE_JOBS_H
#define ACCRETED_SERVER_STORE_JOBS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/learner/learner.h"
#include "server/store/db.h"

enum job_state {
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_CANCELLING,
    JOB_SUCCEEDED,
    JOB_FAILED,
    JOB_CANCELLED,
};
enum { JOB_STATES = JOB_CANCELLED + 1 };

enum job_interruption { JOB_NOT_INTERRUPTED, JOB_DAEMON_STOPPED, JOB_DAEMON_CRASHED };

struct job {
    int64_t id;
    enum job_state state;
    char phase[16];           /* "" before the first start */
    int attempt;              /* 1, 2, ... since the last one that finished a new epoch */
    int restarts;             /* in all */
    int epochs_before;        /* durable epochs when this attempt began */
    double progress;          /* 0..1 */
    char *options;            /* owned; JSON text, every option with its effective value */
    char *error_code, *error_detail; /* owned; NULL unless failed */
    bool stopped;             /* while running: the daemon was told to stop, it did not crash */
    enum job_interruption interruption; /* how the attempt before this one ended */
    int64_t created_ms, started_ms, finished_ms; /* 0 = not yet */
    int64_t retry_of;         /* job that it repeats; 0 = none */
    char *warnings;           /* owned; JSON array, NULL: none */
    int64_t base;             /* version it builds on; 0 = none, or not started */
    int64_t version;          /* made by it; 0 = none */
    bool published;           /* that version took over at once */
    char kernel[16];          /* "" before the first start */
    int gang;                 /* 0 before the first start */
    int reproducible;         /* 1, 0, or -1 while unknown */
    int64_t train_images;     /* -1 before they were counted */
    double images_per_second; /* NaN before they were measured */
    int64_t *batch_ids;       /* owned; 0 = deleted since */
    char **batch_names;       /* owned, each too */
    int batch_count;
};

const char *job_state_name(enum job_state s);
bool job_state_is_final(enum job_state s);
void job_release(struct job *j);
void jobs_release(struct job *jobs, int count); /* each, and the array */

/* ---- reading ---- */
int jobs_get(struct db_txn *t, int64_t id, struct job *out); /* ERR_MISSING */
/* Newest first, ids below `before_id` (0 = from the newest), at most `limit`; release with
 * jobs_release. */
int jobs_list(struct db_txn *t, int64_t before_id, int limit, struct job **out, int *count);
/* Jobs that have not ended, oldest first. */
int jobs_list_open(struct db_txn *t, struct job **out, int *count);
/* The oldest queued one; ERR_MISSING when none waits. */
int jobs_next(struct db_txn *t, int64_t *id);
int jobs_count_queued(struct db_txn *t, int64_t *count);
/* Place of a queued job in the queue, 1 = the next to start. */
int jobs_position(struct db_txn *t, int64_t id, int64_t *position);
/* Training images, times epochs, of the queued jobs below `id`. */
int jobs_queued_passes(struct db_txn *t, int64_t id, int64_t *passes);
/* Images a second of the newest job that succeeded with a speed; ERR_MISSING when there is none. */
int jobs_last_speed(struct db_txn *t, double *images_per_second);
/* The open job before job `before` (0: any) that trains on class `label`; ERR_MISSING when there is none. */
int jobs_find_class(struct db_txn *t, const char *label, int64_t before, int64_t *id);
/* Epochs whose figures are durable. */
int jobs_epochs(struct db_txn *t, int64_t id, int *count);
/* The curve, by epoch; *out is an array to free. Unmeasured figures are NaN. */
int jobs_metrics(struct db_txn *t, int64_t id, struct learner_epoch **out, int *count);

/* ---- writing ---- */

/* A queued job on these batches, which become `in_use`; *id is set. `retry_of`: 0 = of none; `warnings`: JSON array, or NULL. */
int jobs_insert(struct db_txn *t, const char *options, const int64_t *batch_ids, int batch_count,
                int64_t retry_of, const char *warnings, int64_t *id);
/* queued -> running. */
int jobs_start(struct db_txn *t, int64_t id, const char *kernel, int gang);
/* What it builds on (0: nothing), chosen when it starts. */
int jobs_set_base(struct db_txn *t, int64_t id, int64_t base);
/* What only the start finds out: the options with the input's shape, and how many images there are.
 */
int jobs_set_plan(struct db_txn *t, int64_t id, const char *options, int64_t train_images);
/* running -> cancelling, queued -> cancelled (batches become ready again). */
int jobs_cancel(struct db_txn *t, int64_t id, enum job_state from);
/* cancelling -> cancelled; batches become ready again. */
int jobs_cancelled(struct db_txn *t, int64_t id);
/* running -> failed; batches become ready again. */
int jobs_fail(struct db_txn *t, int64_t id, const char *code, const char *detail);
/* running -> queued, to be tried again after a restart: an attempt that made progress counts anew.
 */
int jobs_requeue(struct db_txn *t, int64_t id, enum job_interruption why, int attempt, int epochs);
/* running -> succeeded with `version`. Its batches are consumed by it if it is `published`, else
 * ready again. */
int jobs_succeed(struct db_txn *t, int64_t id, int64_t version, bool published, bool reproducible);
/* The ready batches of a job that succeeded without publishing are consumed by its version now. */
int jobs_consume(struct db_txn *t, int64_t id, int64_t version);
/* Remembers that a running job was told to stop, so that the next start does not count it as a
 * crash. */
int jobs_mark_stopped(struct db_txn *t, int64_t id);
/* Progress and one epoch's figures; an epoch that was run again replaces the old one. */
int jobs_put_epoch(struct db_txn *t, int64_t id, const struct learner_epoch *e, double progress,
                   double images_per_second);
int jobs_set_phase(struct db_txn *t, int64_t id, const char *phase, double progress);

#endif
