/*
 * events.c - see events.h.
 */
#include "server/store/events.h"

#include "server/store/sql.h"

int events_range(struct db_txn *t, int64_t *oldest, int64_t *newest)
{
    int64_t first, last;
    int err = sql_get_int(t, &first, "SELECT coalesce(min(id), 0) FROM events", SQL_NONE);
    if (!err)
        err = sql_get_int(t, &last, "SELECT coalesce(max(id), 0) FROM events", SQL_NONE);
    if (err)
        return err;
    *oldest = first;
    *newest = last;
    return 0;
}

static void read_event(sqlite3_stmt *s, struct event *e)
{
    *e = (struct event){
        .id = sqlite3_column_int64(s, 0),
        .created_ms = sqlite3_column_int64(s, 2),
        .job = sqlite3_column_int64(s, 4),
        .version = sqlite3_column_int64(s, 8),
        .epoch = {.epoch = sqlite3_column_int(s, 9),
                  .pruned = sqlite3_column_int(s, 10) != 0,
                  .loss_class = sql_column_real(s, 11),
                  .loss_mmd = sql_column_real(s, 12),
                  .loss_ad = sql_column_real(s, 13),
                  .accuracy = sql_column_real(s, 14),
                  .rate = sql_column_real(s, 15),
                  .seconds = sql_column_real(s, 16)},
    };
    sql_column_text(s, 1, e->kind, sizeof e->kind);
    sql_column_text(s, 3, e->what, sizeof e->what);
    sql_column_text(s, 5, e->phase, sizeof e->phase);
    sql_column_text(s, 6, e->error_code, sizeof e->error_code);
    sql_column_text(s, 7, e->batch, sizeof e->batch);
}

int events_list(struct db_txn *t, int64_t after, int64_t last, struct event *out, int capacity,
                int *count)
{
    sqlite3_stmt *s;
    int n = 0;
    int err = sql_query(t, &s,
                        "SELECT e.id, kind, created_ms, what, e.job, phase, error_code, batch, "
                        "version, e.epoch, pruned, loss_class, loss_mmd, loss_ad, accuracy, rate, "
                        "seconds FROM events e "
                        "LEFT JOIN job_metrics m ON m.job = e.job AND m.epoch = e.epoch "
                        "WHERE e.id > ?1 AND e.id <= ?2 ORDER BY e.id LIMIT ?3",
                        SQL(sql_int(after), sql_int(last), sql_int(capacity)));
    if (err)
        return err;
    while (n < capacity && (err = sql_step(t, s)) > 0)
        read_event(s, &out[n++]);
    sqlite3_finalize(s);
    if (err < 0)
        return err;
    *count = n;
    return 0;
}
