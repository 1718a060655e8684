/*
 * predictor.h - predictions: the model that serves, how it is swapped, and batches of requests.
 *
 * A request for predictions is a task. It goes
 *
 *   submit --pool thread--> prepare --> ready --classifier--> scored, finish --loop--> done
 *     |                        |                                                  ^
 *     (429, 404 ...)           +---- an error, or no image left ------------------+
 *
 * Images of different tasks are prepared side by side; the thread that has prepared one goes on to
 * classify while fewer than PREDICTOR_LANES do, taking whatever is ready meanwhile, PREDICTOR_BATCH
 * images at a time. So an idle daemon answers without any delay, and a busy one in batches.
 *
 * A task holds the serving it began with, so a swap never fails one. Unless noted, everything is
 * the loop's.
 */
#ifndef ACCRETED_SERVER_JOBS_PREDICTOR_H
#define ACCRETED_SERVER_JOBS_PREDICTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "server/jobs/serving.h"

struct app;
struct predictor;

enum {
    PREDICTOR_BATCH = 32,      /* images classified together, and the most a task may have */
    PREDICTOR_QUEUE = 128,     /* tasks submitted and not done */
    PREDICTOR_LANES = 2, /* threads that classify at once */
    PREDICTOR_OTHERS = 4,      /* versions kept in memory beside the active one */
};

struct predictor_task {
    /* Set by the caller before predictor_submit. */
    bool want_features;
    /* Pool thread: asks predictor_task_room for room, writes the images there, normalised, one
     * behind the other, and their number to t->count. An error, or no image, ends the task. */
    int (*prepare)(struct predictor_task *t);
    /* Pool thread, once the images are classified: for what takes long with the result; NULL:
     * nothing. */
    int (*finish)(struct predictor_task *t);
    /* Loop: the end, for better or worse. The task's memory is the caller's again. */
    void (*done)(struct predictor_task *t);

    /* For prepare, finish and done. */
    struct serving *serving; /* NULL where loading failed */
    int err;
    int count;
    float *scores;        /* (count, classes): what probabilities are the softmax of */
    float *probabilities; /* (count, classes) */
    float *features;      /* (count, serving_feature_count), unit vectors; where wanted */

    /* The predictor's own. */
    struct predictor_task *next;
    int64_t version;
    char **class_names; /* of a version that has to be loaded */
    int class_count;
    float *x;
    bool leads_batch; /* the first of those classified together */
    uint64_t submitted_ns, ready_ns, taken_ns, scored_ns;
};

struct predictor_stats { /* of one version since the start; a task is a request */
    int64_t version;
    uint64_t tasks, failed_tasks, images, batches;
    uint64_t task_ns, failed_ns;                          /* from submit to done */
    uint64_t prepare_ns, queue_ns, classify_ns, reply_ns; /* parts of task_ns */
    int64_t last_ms; /* Unix time of the last one; 0: none yet */
};

int predictor_new(struct predictor **out, struct app *app);
/* Once no task is left; its handles close when the loop runs once more. NULL is fine. */
void predictor_free(struct predictor *p);

/* Loads the active version's model file, if there is one; blocks; start-up only. */
int predictor_start(struct predictor *p);
/* Makes `s` the one that serves; takes the reference. */
void predictor_swap(struct predictor *p, struct serving *s);
/* The same after a commit that made it the active one, unless another one has become that since:
 * the news of two commits may come here in either order. */
void predictor_swap_committed(struct predictor *p, struct serving *s);
/* After a commit that renamed or retired classes: nothing answers with the old names any longer. The
 * active version's new serving is the caller's to swap in. */
void predictor_classes_changed(struct predictor *p);
/* Answers from `version`, which is not active, no longer. */
void predictor_forget(struct predictor *p, int64_t version);
/* The active one, held for the caller, or NULL when nothing is published yet. */
struct serving *predictor_active(struct predictor *p);

/* Answers task `t` from `version`, 0 for the active one. Errors, after which nothing else is
 * called: ERR_MISSING (no version is active, or no such one), ERR_INVALID (all its classes are retired), ERR_NOSPACE (PREDICTOR_QUEUE tasks
 * wait: try again later), ERR_NOMEM, ERR_IO. */
int predictor_submit(struct predictor *p, struct predictor_task *t, int64_t version);
/* For prepare: t->x, for `count` images, 1..PREDICTOR_BATCH. NULL when memory is short. */
float *predictor_task_room(struct predictor_task *t, int count);
/* Frees the results of a task that is done. */
void predictor_task_release(struct predictor_task *t);

/* What `version` did, 0: all together. */
void predictor_stats(const struct predictor *p, int64_t version, struct predictor_stats *out);
/* Tasks submitted and not done. */
int predictor_pending(const struct predictor *p);

#endif
