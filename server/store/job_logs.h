/*
 * job_logs.h - what jobs did, line by line: a bounded log for each, in the database.
 *
 * Functions take the connection: db_reader() on the loop for those that read, or the txn of a write
 * function.
 */
#ifndef ACCRETED_SERVER_STORE_JOB_LOGS_H
#define ACCRETED_SERVER_STORE_JOB_LOGS_H

#include <stdint.h>

#include "server/store/db.h"

enum { JOB_LOG_MESSAGE_BYTES = 513 };

struct job_log {
    int64_t id; /* grows over all jobs */
    int64_t created_ms;
    char level[8];  /* "info", "warning" or "error" */
    char event[33]; /* stable, snake_case */
    char message[JOB_LOG_MESSAGE_BYTES];
};

/* Lines of `job` with ids above `after`, oldest first, at most `limit`; an array to free. */
int job_logs_list(struct db_txn *t, int64_t job, int64_t after, int limit, struct job_log **out,
                  int *count);
/* One line more, cut to JOB_LOG_MESSAGE_BYTES; of each job the newest 500 stay. */
int job_logs_add(struct db_txn *t, int64_t job, const char *level, const char *event,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
