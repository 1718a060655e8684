/*
 * events.h - rows of what happened: written by triggers (migrations/0002_events.sql) with each
 * change, read here in their order. Ids only grow, over restarts too; the newest 1,000 are kept.
 */
#ifndef ACCRETED_SERVER_STORE_EVENTS_H
#define ACCRETED_SERVER_STORE_EVENTS_H

#include <stdint.h>

#include "core/learner/learner.h"
#include "server/store/batches.h"
#include "server/store/db.h"

struct event {
    int64_t id;
    char kind[16];         /* job, epoch, batch, version, classes */
    int64_t created_ms;
    char what[16];         /* job, batch: its state; version: added, activated, discarded */
    int64_t job;           /* 0 = none */
    char phase[16];        /* of a job; "" before its first start */
    char error_code[64];   /* of a failed job, else "" */
    struct learner_epoch epoch; /* kind epoch: as stored now */
    char batch[BATCH_NAME_BYTES];
    int64_t version;       /* 0 = none */
};

/* The first and last id that are kept; 0 and 0 when there is none. */
int events_range(struct db_txn *t, int64_t *oldest, int64_t *newest);
/* Those after id `after` up to id `last`, oldest first, at most `capacity`. */
int events_list(struct db_txn *t, int64_t after, int64_t last, struct event *out, int capacity,
                int *count);

#endif
