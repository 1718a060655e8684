/*
 * recovery.h - what becomes of what the last daemon left behind. Start-up only, before anything
 * runs.
 */
#ifndef ACCRETED_SERVER_JOBS_RECOVERY_H
#define ACCRETED_SERVER_JOBS_RECOVERY_H

#include "server/store/jobs.h"

enum { RECOVERY_MAX_ATTEMPTS = 3 }; /* without a new epoch between them */

enum recovery_action {
    RECOVER_NOTHING, /* queued, or ended */
    RECOVER_CANCEL,  /* was being cancelled: is cancelled now */
    RECOVER_RETRY,   /* was running: runs again, from its checkpoint */
    RECOVER_GIVE_UP, /* was running and crashed once too often */
};

struct recovery {
    enum recovery_action action;
    enum job_interruption why; /* for RECOVER_RETRY, with the attempt's number */
    int attempt;
};

/* The decision alone. `epochs`: durable epochs of the job now. A clean stop is no attempt; an
 * attempt that finished a new epoch made progress, and counting starts again. Pure. */
struct recovery recovery_decide(const struct job *j, int epochs);

/* Applies it to every job. On the db thread. */
int recovery_jobs(struct db_txn *t);

/* Deletes the files no row owns: models, snapshots and checkpoints of publications and jobs that
 * did not come to be, packs of uploads that were not acknowledged, training packs of consumed
 * batches. Loop thread (reading connection); blocks. Failures are logged and left. */
void recovery_sweep(struct db *db, const char *data_dir);

#endif
