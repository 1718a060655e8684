/*
 * totals.h - what is kept, counted: one number and its bytes a kind.
 */
#ifndef ACCRETED_SERVER_STORE_TOTALS_H
#define ACCRETED_SERVER_STORE_TOTALS_H

#include <stdint.h>

#include "server/store/db.h"

struct total {
    int64_t count, bytes;
};

struct totals {
    struct total test_images;     /* never train; kept until deleted */
    struct total training_images; /* not learned yet: deleted when they are */
    struct total snapshots, models;
    int64_t classes; /* known to the active version: it holds a prototype of each */
    int64_t database_bytes;
};

/* Reads all of it. Any thread's connection. Errors: those of sql.h. */
int totals_read(struct db_txn *t, struct totals *out);

#endif
