/*
 * figures.h - what the jobs came to, summed up for /metrics. Reads only: db_reader() on the loop.
 */
#ifndef ACCRETED_SERVER_STORE_FIGURES_H
#define ACCRETED_SERVER_STORE_FIGURES_H

#include <stdint.h>

#include "server/store/jobs.h"

struct figures {
    int64_t jobs[JOB_STATES];
    int64_t finished_ms;   /* from start to end, of all jobs that were started and have ended */
    int64_t finished;      /* how many those are */
    int64_t restarts;      /* of jobs that an end of the daemon interrupted */
    int64_t damaged;       /* jobs that failed for a damaged file */
    int64_t train_samples; /* images times epochs that were trained */
    double loss; /* of the last epoch that was trained; NaN: none yet */
};

int figures_read(struct db_txn *t, struct figures *out);

#endif
