/*
 * job_logs.c - see job_logs.h.
 */
#include "server/store/job_logs.h"

#include <stdarg.h>
#include <stdio.h>

#include "server/store/sql.h"

static void read_line(sqlite3_stmt *s, void *element)
{
    struct job_log *l = element;
    l->id = sqlite3_column_int64(s, 0);
    l->created_ms = sqlite3_column_int64(s, 1);
    sql_column_text(s, 2, l->level, sizeof l->level);
    sql_column_text(s, 3, l->event, sizeof l->event);
    sql_column_text(s, 4, l->message, sizeof l->message);
}

int job_logs_list(struct db_txn *t, int64_t job, int64_t after, int limit, struct job_log **out,
                  int *count)
{
    void *list;
    int err = sql_read_rows(t,
                            "SELECT id, created_ms, level, event, message FROM job_logs "
                            "WHERE job = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                            SQL(sql_int(job), sql_int(after), sql_int(limit)), sizeof **out,
                            read_line, &list, count);
    if (!err)
        *out = list;
    return err;
}

int job_logs_add(struct db_txn *t, int64_t job, const char *level, const char *event,
                 const char *format, ...)
{
    char message[JOB_LOG_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return sql_run(t,
                   "INSERT INTO job_logs (job, created_ms, level, event, message) "
                   "VALUES (?1, ?2, ?3, ?4, ?5)",
                   SQL(sql_int(job), sql_int(db_now_ms()), sql_text(level), sql_text(event),
                       sql_text(message)));
}
