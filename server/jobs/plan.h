/*
 * plan.h - what a job would train on, or why it may not.
 *
 * Made twice by the same rules: when a job is posted, to refuse it at once, and when it starts,
 * because the jobs before it may have changed what is known. Runs on the db thread, inside a
 * transaction.
 */
#ifndef ACCRETED_SERVER_JOBS_PLAN_H
#define ACCRETED_SERVER_JOBS_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "server/jobs/options.h"
#include "server/store/batches.h"
#include "server/store/classes.h"
#include "server/store/db.h"

struct plan {
    int64_t job;              /* 0 while it is being posted */
    struct job_options options;
    struct batch *train;      /* owned; the job's batches, in its order */
    int train_count;
    struct batch *test;       /* owned; every batch with test images */
    int test_count;
    char **names;             /* owned, each too; classes by output index, the new ones last; NULL: retired */
    int known, classes;       /* before and after this job */
    int64_t version, base;    /* to be published, and what it builds on (0: nothing) */
    int64_t parent;           /* that; but where no class is new, which is no step, the base's */
    bool refines;             /* that: the network is not trained, and the version takes its base's place */
    int step;                 /* from 1 */
    struct rename *renames;   /* owned; all there were (only when it starts) */
    int rename_count;
    int64_t *served;          /* owned; versions_served() (only when it starts) */
    int served_count;
    int64_t *chain;           /* owned; versions up to the base, oldest first; the first step-1 are those of earlier steps */
    int chain_count;
};

/* For POST: names as given, options parsed over the defaults. ERR_INVALID fills *why; other errors
 * are the store's. */
int plan_for_post(struct db_txn *t, const char *const *batch_names, int count,
                  const struct job_options *options, struct plan *out, struct refusal *why);
/* For the start of job `id`: everything the worker needs; the job's row says what it builds on. */
int plan_for_start(struct db_txn *t, int64_t id, struct plan *out, struct refusal *why);
void plan_release(struct plan *p);

/* Training images of all its batches. */
int64_t plan_train_images(const struct plan *p);
/* Output index of a label, or -1: not known and not learned by this job. */
int plan_class(const struct plan *p, const char *label);
/* Marks in `base`, read from a file of the version it builds on, what is retired. ERR_CORRUPT, ERR_FORMAT: it is not that
 * version's, for its classes, its steps (there is a snapshot for each) or its input are others. Any thread. */
int plan_accept_base(const struct plan *p, struct model *base);

#endif
