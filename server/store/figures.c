/*
 * figures.c - see figures.h.
 */
#include "server/store/figures.h"

#include <math.h>

#include "server/store/sql.h"

static int read_states(struct db_txn *t, struct figures *out)
{
    int err = 0;
    for (int s = 0; s < JOB_STATES && !err; s++)
        err = sql_get_int(t, &out->jobs[s], "SELECT count(*) FROM jobs WHERE state = ?1",
                          SQL(sql_text(job_state_name((enum job_state)s))));
    return err;
}

static int read_loss(struct db_txn *t, struct figures *out)
{
    sqlite3_stmt *s;
    int err = sql_query(t, &s, "SELECT loss_class FROM job_metrics "
                               "ORDER BY job DESC, epoch DESC LIMIT 1",
                        SQL_NONE);
    if (err)
        return err;
    int found = sql_step(t, s);
    out->loss = found > 0 ? sql_column_real(s, 0) : NAN;
    sqlite3_finalize(s);
    return found < 0 ? found : 0;
}

int figures_read(struct db_txn *t, struct figures *out)
{
    const struct {
        int64_t *field;
        const char *statement;
    } sums[] = {
        {&out->finished_ms, "SELECT coalesce(sum(finished_ms - started_ms), 0) FROM jobs "
                            "WHERE finished_ms IS NOT NULL AND started_ms IS NOT NULL"},
        {&out->finished, "SELECT count(*) FROM jobs "
                         "WHERE finished_ms IS NOT NULL AND started_ms IS NOT NULL"},
        {&out->restarts, "SELECT coalesce(sum(restarts), 0) FROM jobs"},
        {&out->damaged, "SELECT count(*) FROM jobs WHERE error_code IN ('snapshot_damaged', "
                        "'corrupt_batch')"},
        {&out->train_samples, "SELECT coalesce(sum(train_images), 0) FROM jobs "
                              "JOIN job_metrics ON job = id"},
    };
    int err = read_states(t, out);
    for (size_t i = 0; i < sizeof sums / sizeof *sums && !err; i++)
        err = sql_get_int(t, sums[i].field, sums[i].statement, SQL_NONE);
    return err ? err : read_loss(t, out);
}
