/*
 * jobs.c - see jobs.h.
 */
#include "server/store/jobs.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/job_logs.h"
#include "server/store/sql.h"
#include "server/store/versions.h"

#define COLUMNS                                                                                    \
    "SELECT id, state, phase, attempt, restarts, epochs_before, progress, options, error_code, "   \
    "error_detail, interruption, created_ms, started_ms, finished_ms, version, kernel, gang, "     \
    "reproducible, train_images, images_per_second, stopped, base, published, retry_of, "      \
    "warnings FROM jobs "

static const char *const state_names[JOB_STATES] = {
    [JOB_QUEUED] = "queued",         [JOB_RUNNING] = "running", [JOB_CANCELLING] = "cancelling",
    [JOB_SUCCEEDED] = "succeeded",   [JOB_FAILED] = "failed",   [JOB_CANCELLED] = "cancelled",
};

static const char *const interruption_names[] = {
    [JOB_NOT_INTERRUPTED] = NULL,
    [JOB_DAEMON_STOPPED] = "daemon_stopped",
    [JOB_DAEMON_CRASHED] = "daemon_crashed",
};

const char *job_state_name(enum job_state s)
{
    return state_names[s];
}

bool job_state_is_final(enum job_state s)
{
    switch (s) {
    case JOB_QUEUED:
    case JOB_RUNNING:
    case JOB_CANCELLING:
        return false;
    case JOB_SUCCEEDED:
    case JOB_FAILED:
    case JOB_CANCELLED:
        return true;
    }
    return true;
}

void job_release(struct job *j)
{
    for (int i = 0; i < j->batch_count; i++)
        free(j->batch_names[i]);
    free(j->batch_names);
    free(j->batch_ids);
    free(j->options);
    free(j->error_code);
    free(j->error_detail);
    free(j->warnings);
    *j = (struct job){0};
}

void jobs_release(struct job *jobs, int count)
{
    for (int i = 0; i < count; i++)
        job_release(&jobs[i]);
    free(jobs);
}

/* ---- reading ---- */

static int read_batches(struct db_txn *t, struct job *j)
{
    sqlite3_stmt *s;
    int64_t count;
    int err = sql_get_int(t, &count, "SELECT count(*) FROM job_batches WHERE job = ?1",
                          SQL(sql_int(j->id)));
    if (err)
        return err;
    j->batch_ids = calloc((size_t)count + 1, sizeof *j->batch_ids);
    j->batch_names = calloc((size_t)count + 1, sizeof *j->batch_names);
    if (!j->batch_ids || !j->batch_names)
        return ERR_NOMEM;
    err = sql_query(t, &s,
                    "SELECT batch, name FROM job_batches WHERE job = ?1 ORDER BY position",
                    SQL(sql_int(j->id)));
    if (err)
        return err;
    while (j->batch_count < count && (err = sql_step(t, s)) > 0) {
        j->batch_ids[j->batch_count] = sqlite3_column_int64(s, 0);
        err = sql_column_copy(s, 1, &j->batch_names[j->batch_count]);
        if (err)
            break;
        j->batch_count++;
    }
    sqlite3_finalize(s);
    return err;
}

static int index_of(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (names[i] && strcmp(names[i], name) == 0)
            return i;
    return 0;
}

static int read_row(struct db_txn *t, sqlite3_stmt *s, struct job *j)
{
    char name[32];
    bool known = sqlite3_column_type(s, 17) != SQLITE_NULL;
    bool counted = sqlite3_column_type(s, 18) != SQLITE_NULL;
    *j = (struct job){
        .id = sqlite3_column_int64(s, 0),
        .attempt = sqlite3_column_int(s, 3),
        .restarts = sqlite3_column_int(s, 4),
        .epochs_before = sqlite3_column_int(s, 5),
        .progress = sqlite3_column_double(s, 6),
        .created_ms = sqlite3_column_int64(s, 11),
        .started_ms = sqlite3_column_int64(s, 12),
        .finished_ms = sqlite3_column_int64(s, 13),
        .version = sqlite3_column_int64(s, 14),
        .gang = sqlite3_column_int(s, 16),
        .reproducible = known ? sqlite3_column_int(s, 17) : -1,
        .train_images = counted ? sqlite3_column_int64(s, 18) : -1,
        .images_per_second = sql_column_real(s, 19),
        .stopped = sqlite3_column_int(s, 20) != 0,
        .base = sqlite3_column_int64(s, 21),
        .published = sqlite3_column_int(s, 22) != 0,
        .retry_of = sqlite3_column_int64(s, 23),
    };
    sql_column_text(s, 1, name, sizeof name);
    j->state = (enum job_state)index_of(state_names, JOB_STATES, name);
    sql_column_text(s, 10, name, sizeof name);
    j->interruption = (enum job_interruption)index_of(interruption_names, 3, name);
    sql_column_text(s, 2, j->phase, sizeof j->phase);
    sql_column_text(s, 15, j->kernel, sizeof j->kernel);
    int err = sql_column_copy(s, 7, &j->options);
    if (!err)
        err = sql_column_copy(s, 8, &j->error_code);
    if (!err)
        err = sql_column_copy(s, 9, &j->error_detail);
    if (!err)
        err = sql_column_copy(s, 24, &j->warnings);
    if (!err)
        err = read_batches(t, j);
    if (err)
        job_release(j);
    return err;
}

static int read_many(struct db_txn *t, const char *statement, const struct sql_value *values,
                     int value_count, struct job **out, int *count)
{
    sqlite3_stmt *s;
    struct job *list = NULL;
    int n = 0, capacity = 0;
    int err = sql_query(t, &s, statement, values, value_count);
    if (err)
        return err;
    while ((err = sql_step(t, s)) > 0) {
        if (n == capacity) {
            capacity = capacity ? 2 * capacity : 8;
            struct job *more = realloc(list, (size_t)capacity * sizeof *more);
            if (!more) {
                err = ERR_NOMEM;
                break;
            }
            list = more;
        }
        err = read_row(t, s, &list[n]);
        if (err)
            break;
        n++;
    }
    sqlite3_finalize(s);
    if (err) {
        jobs_release(list, n);
        return err;
    }
    *out = list;
    *count = n;
    return 0;
}

int jobs_get(struct db_txn *t, int64_t id, struct job *out)
{
    struct job *list;
    int count;
    int err = read_many(t, COLUMNS "WHERE id = ?1", SQL(sql_int(id)), &list, &count);
    if (err)
        return err;
    if (count == 1)
        *out = list[0];
    free(list);
    return count == 1 ? 0 : ERR_MISSING;
}

int jobs_list(struct db_txn *t, int64_t before_id, int limit, struct job **out, int *count)
{
    return read_many(t, COLUMNS "WHERE ?1 = 0 OR id < ?1 ORDER BY id DESC LIMIT ?2",
                     SQL(sql_int(before_id), sql_int(limit)), out, count);
}

int jobs_list_open(struct db_txn *t, struct job **out, int *count)
{
    return read_many(t,
                     COLUMNS "WHERE state IN ('queued', 'running', 'cancelling') ORDER BY id",
                     SQL_NONE, out, count);
}

int jobs_next(struct db_txn *t, int64_t *id)
{
    return sql_get_int(t, id, "SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1",
                       SQL_NONE);
}

int jobs_count_queued(struct db_txn *t, int64_t *count)
{
    return sql_get_int(t, count, "SELECT count(*) FROM jobs WHERE state = 'queued'", SQL_NONE);
}

int jobs_position(struct db_txn *t, int64_t id, int64_t *position)
{
    return sql_get_int(t, position,
                       "SELECT count(*) FROM jobs WHERE state = 'queued' AND id <= ?1",
                       SQL(sql_int(id)));
}

int jobs_queued_passes(struct db_txn *t, int64_t id, int64_t *passes)
{
    return sql_get_int(t, passes,
                       VERSIONS_CHAIN("active = 1")
                       "SELECT coalesce(sum(b.train_count * CASE WHEN EXISTS ("
                       "SELECT 1 FROM job_batches o JOIN batch_classes c ON c.batch = o.batch "
                       "WHERE o.job = j.id AND c.train_count > 0 AND c.label NOT IN ("
                       "SELECT name FROM classes WHERE retired_ms IS NULL "
                       "AND since_version IN (SELECT v FROM chain))) "
                       "THEN json_extract(j.options, '$.epochs') + "
                       "json_extract(j.options, '$.prune.epochs') ELSE 1 END), 0) FROM jobs j "
                       "JOIN job_batches jb ON jb.job = j.id JOIN batches b ON b.id = jb.batch "
                       "WHERE j.state = 'queued' AND j.id < ?1",
                       SQL(sql_int(id)));
}

int jobs_last_speed(struct db_txn *t, double *images_per_second)
{
    sqlite3_stmt *s;
    int err = sql_query(t, &s,
                        "SELECT images_per_second FROM jobs WHERE state = 'succeeded' AND "
                        "images_per_second > 0 ORDER BY id DESC LIMIT 1",
                        SQL_NONE);
    if (err)
        return err;
    int got = sql_step(t, s);
    if (got > 0)
        *images_per_second = sqlite3_column_double(s, 0);
    sqlite3_finalize(s);
    return got > 0 ? 0 : got == 0 ? ERR_MISSING : got;
}

int jobs_find_class(struct db_txn *t, const char *label, int64_t before, int64_t *id)
{
    return sql_get_int(t, id,
                       "SELECT j.id FROM jobs j JOIN job_batches jb ON jb.job = j.id "
                       "JOIN batch_classes c ON c.batch = jb.batch "
                       "WHERE j.state IN ('queued', 'running', 'cancelling') AND (?2 = 0 OR j.id < ?2) "
                       "AND c.label = ?1 AND c.train_count > 0 ORDER BY j.id LIMIT 1",
                       SQL(sql_text(label), sql_int(before)));
}

int jobs_epochs(struct db_txn *t, int64_t id, int *count)
{
    int64_t epochs;
    int err = sql_get_int(t, &epochs, "SELECT count(*) FROM job_metrics WHERE job = ?1",
                          SQL(sql_int(id)));
    if (!err)
        *count = (int)epochs;
    return err;
}

int jobs_metrics(struct db_txn *t, int64_t id, struct learner_epoch **out, int *count)
{
    sqlite3_stmt *s;
    int total, n = 0;
    int err = jobs_epochs(t, id, &total);
    if (err)
        return err;
    struct learner_epoch *list = calloc((size_t)total + 1, sizeof *list);
    if (!list)
        return ERR_NOMEM;
    err = sql_query(t, &s,
                    "SELECT epoch, pruned, loss_class, loss_mmd, loss_ad, accuracy, rate, seconds "
                    "FROM job_metrics WHERE job = ?1 ORDER BY epoch",
                    SQL(sql_int(id)));
    if (err)
        goto out;
    while (n < total && (err = sql_step(t, s)) > 0) {
        list[n++] = (struct learner_epoch){
            .epoch = sqlite3_column_int(s, 0),
            .pruned = sqlite3_column_int(s, 1) != 0,
            .loss_class = sql_column_real(s, 2),
            .loss_mmd = sql_column_real(s, 3),
            .loss_ad = sql_column_real(s, 4),
            .accuracy = sql_column_real(s, 5),
            .rate = sql_column_real(s, 6),
            .seconds = sql_column_real(s, 7),
        };
    }
    sqlite3_finalize(s);
    err = err < 0 ? err : 0;
out:
    if (err) {
        free(list);
        return err;
    }
    *out = list;
    *count = n;
    return 0;
}

/* ---- writing ---- */

/* A compare-and-set: no row in the expected state is ERR_INVALID. */
static int change(struct db_txn *t, const char *statement, const struct sql_value *values,
                  int count)
{
    int err = sql_run_one(t, statement, values, count);
    return err == ERR_MISSING ? ERR_INVALID : err;
}

static int set_batches(struct db_txn *t, int64_t id, const char *state, int64_t version)
{
    return sql_run(t,
                   "UPDATE batches SET state = ?2, consumed_version = ?3 "
                   "WHERE id IN (SELECT batch FROM job_batches WHERE job = ?1)",
                   SQL(sql_int(id), sql_text(state), sql_int_or_null(version)));
}

int jobs_insert(struct db_txn *t, const char *options, const int64_t *batch_ids, int batch_count,
                int64_t retry_of, const char *warnings, int64_t *id)
{
    int err = sql_run(t,
                      "INSERT INTO jobs (options, created_ms, retry_of, warnings) "
                      "VALUES (?1, ?2, ?3, ?4)",
                      SQL(sql_text(options), sql_int(db_now_ms()), sql_int_or_null(retry_of),
                          sql_text(warnings)));
    if (err)
        return err;
    int64_t job = sql_last_id(t);
    for (int i = 0; i < batch_count && !err; i++)
        err = sql_run(t,
                      "INSERT INTO job_batches (job, position, batch, name) "
                      "SELECT ?1, ?2, id, name FROM batches WHERE id = ?3",
                      SQL(sql_int(job), sql_int(i), sql_int(batch_ids[i])));
    if (!err)
        err = set_batches(t, job, "in_use", 0);
    if (!err)
        err = job_logs_add(t, job, "info", "queued", "Queued with %d batches.", batch_count);
    if (!err)
        *id = job;
    return err;
}

int jobs_start(struct db_txn *t, int64_t id, const char *kernel, int gang)
{
    int err = change(t,
                     "UPDATE jobs SET state = 'running', phase = 'validate', kernel = ?2, "
                     "gang = ?3, started_ms = coalesce(started_ms, ?4) "
                     "WHERE id = ?1 AND state = 'queued'",
                     SQL(sql_int(id), sql_text(kernel), sql_int(gang), sql_int(db_now_ms())));
    return err ? err
               : job_logs_add(t, id, "info", "started", "Runs on %d threads (%s).", gang, kernel);
}

int jobs_set_base(struct db_txn *t, int64_t id, int64_t base)
{
    return change(t,
                  "UPDATE jobs SET base = ?2 WHERE id = ?1 AND finished_ms IS NULL",
                  SQL(sql_int(id), sql_int_or_null(base)));
}

int jobs_set_plan(struct db_txn *t, int64_t id, const char *options, int64_t train_images)
{
    int err = change(t,
                     "UPDATE jobs SET options = ?2, train_images = ?3 "
                     "WHERE id = ?1 AND state IN ('running', 'cancelling')",
                     SQL(sql_int(id), sql_text(options), sql_int(train_images)));
    return err ? err
               : job_logs_add(t, id, "info", "data", "%lld training images are decoded.",
                              (long long)train_images);
}

int jobs_cancel(struct db_txn *t, int64_t id, enum job_state from)
{
    if (from != JOB_RUNNING && from != JOB_QUEUED)
        return ERR_INVALID;
    int err = from == JOB_RUNNING
                  ? change(t,
                           "UPDATE jobs SET state = 'cancelling' "
                           "WHERE id = ?1 AND state = 'running'",
                           SQL(sql_int(id)))
                  : change(t,
                           "UPDATE jobs SET state = 'cancelled', finished_ms = ?2 "
                           "WHERE id = ?1 AND state = 'queued'",
                           SQL(sql_int(id), sql_int(db_now_ms())));
    if (!err && from == JOB_QUEUED)
        err = set_batches(t, id, "ready", 0);
    return err ? err : job_logs_add(t, id, "info", "cancel_asked", "Asked to end.");
}

int jobs_cancelled(struct db_txn *t, int64_t id)
{
    int err = change(t,
                     "UPDATE jobs SET state = 'cancelled', finished_ms = ?2 "
                     "WHERE id = ?1 AND state = 'cancelling'",
                     SQL(sql_int(id), sql_int(db_now_ms())));
    if (!err)
        err = set_batches(t, id, "ready", 0);
    return err ? err
               : job_logs_add(t, id, "info", "cancelled", "Ended; its batches are ready again.");
}

int jobs_fail(struct db_txn *t, int64_t id, const char *code, const char *detail)
{
    int err = change(t,
                     "UPDATE jobs SET state = 'failed', finished_ms = ?2, error_code = ?3, "
                     "error_detail = ?4 WHERE id = ?1 AND state = 'running'",
                     SQL(sql_int(id), sql_int(db_now_ms()), sql_text(code), sql_text(detail)));
    if (!err)
        err = set_batches(t, id, "ready", 0);
    return err ? err : job_logs_add(t, id, "error", code, "%s", detail);
}

int jobs_requeue(struct db_txn *t, int64_t id, enum job_interruption why, int attempt, int epochs)
{
    int err = change(t,
                     "UPDATE jobs SET state = 'queued', stopped = 0, interruption = ?2, "
                     "attempt = ?3, epochs_before = ?4, restarts = restarts + 1 "
                     "WHERE id = ?1 AND state = 'running'",
                     SQL(sql_int(id), sql_text(interruption_names[why]), sql_int(attempt),
                         sql_int(epochs)));
    return err ? err
               : job_logs_add(t, id, "warning", interruption_names[why],
                              "Interrupted after %d epochs; goes on from there (attempt %d).",
                              epochs, attempt);
}

int jobs_succeed(struct db_txn *t, int64_t id, int64_t version, bool published, bool reproducible)
{
    int err = change(t,
                     "UPDATE jobs SET state = 'succeeded', phase = 'publish', progress = 1, "
                     "version = ?2, reproducible = ?3, finished_ms = ?4, published = ?5 "
                     "WHERE id = ?1 AND state = 'running'",
                     SQL(sql_int(id), sql_int(version), sql_int(reproducible),
                         sql_int(db_now_ms()), sql_int(published)));
    if (!err)
        err = published ? set_batches(t, id, "consumed", version) : set_batches(t, id, "ready", 0);
    if (err)
        return err;
    return published ? job_logs_add(t, id, "info", "published", "Version %lld serves.",
                                    (long long)version)
                     : job_logs_add(t, id, "warning", "not_published",
                                    "Version %lld is kept, but does not serve.",
                                    (long long)version);
}

int jobs_consume(struct db_txn *t, int64_t id, int64_t version)
{
    return sql_run(t,
                   "UPDATE batches SET state = 'consumed', consumed_version = ?2 WHERE "
                   "state = 'ready' AND id IN (SELECT batch FROM job_batches WHERE job = ?1)",
                   SQL(sql_int(id), sql_int(version)));
}

int jobs_mark_stopped(struct db_txn *t, int64_t id)
{
    return change(t,
                  "UPDATE jobs SET stopped = 1 WHERE id = ?1 AND state = 'running'",
                  SQL(sql_int(id)));
}

int jobs_put_epoch(struct db_txn *t, int64_t id, const struct learner_epoch *e, double progress,
                   double images_per_second)
{
    int err = sql_run(t,
                      "INSERT OR REPLACE INTO job_metrics (job, epoch, pruned, loss_class, "
                      "loss_mmd, loss_ad, accuracy, rate, seconds) "
                      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                      SQL(sql_int(id), sql_int(e->epoch), sql_int(e->pruned),
                          sql_real(e->loss_class), sql_real(e->loss_mmd), sql_real(e->loss_ad),
                          sql_real(e->accuracy), sql_real(e->rate), sql_real(e->seconds)));
    if (err)
        return err;
    return change(t,
                  "UPDATE jobs SET progress = max(progress, ?2), images_per_second = ?3 "
                  "WHERE id = ?1 AND state IN ('running', 'cancelling')",
                  SQL(sql_int(id), sql_real(progress), sql_real(images_per_second)));
}

int jobs_set_phase(struct db_txn *t, int64_t id, const char *phase, double progress)
{
    int err = change(t,
                     "UPDATE jobs SET phase = ?2, progress = max(progress, ?3) "
                     "WHERE id = ?1 AND state IN ('running', 'cancelling')",
                     SQL(sql_int(id), sql_text(phase), sql_real(progress)));
    return err ? err : job_logs_add(t, id, "info", "phase", "Phase %s.", phase);
}
