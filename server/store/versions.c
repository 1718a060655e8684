/*
 * versions.c - see versions.h.
 */
#include "server/store/versions.h"

#include <stdlib.h>

#include "server/store/sql.h"

#define SELECT(from_snapshot)                                                                      \
    "SELECT version, parent, job, step, active, classes, model_bytes, snapshot_bytes, "            \
    "dense_bytes, sparsity, accuracy_dense, accuracy_pruned, created_ms, train_seconds, "          \
    "published, dense_kept, " from_snapshot ", (SELECT count(*) FROM versions c "                  \
    "WHERE c.parent = versions.version AND c.discarded_ms IS NULL), "                              \
    "(SELECT json_extract(options, '$.store') FROM jobs WHERE id = job) IS 'shared', refines, "    \
    "experts "                                                                                     \
    "FROM versions "
#define COLUMNS SELECT("from_snapshot")

/* ?1 (0: the active version) and its ancestors: version v with parent p served from its snapshot (s)
 * when the next one was made on it, the last one when it served last. */
#define CHAIN                                                                                      \
    "WITH RECURSIVE chain (v, p, s, ps) AS ("                                                      \
    "SELECT version, parent, from_snapshot, parent_from_snapshot FROM versions "                   \
    "WHERE version = ?1 OR (?1 = 0 AND active = 1) UNION ALL "                                     \
    "SELECT version, parent, ps, parent_from_snapshot FROM versions JOIN chain ON version = p) "

/* ---- versions ---- */

static void read_version(sqlite3_stmt *s, void *element)
{
    *(struct version *)element = (struct version){
        .version = sqlite3_column_int64(s, 0),
        .parent = sqlite3_column_int64(s, 1),
        .job = sqlite3_column_int64(s, 2),
        .step = sqlite3_column_int(s, 3),
        .active = sqlite3_column_int(s, 4) != 0,
        .classes = sqlite3_column_int(s, 5),
        .model_bytes = sqlite3_column_int64(s, 6),
        .snapshot_bytes = sqlite3_column_int64(s, 7),
        .dense_bytes = sqlite3_column_int64(s, 8),
        .sparsity = sqlite3_column_double(s, 9),
        .accuracy_dense = sql_column_real(s, 10),
        .accuracy_pruned = sql_column_real(s, 11),
        .created_ms = sqlite3_column_int64(s, 12),
        .train_seconds = sqlite3_column_double(s, 13),
        .published = sqlite3_column_int(s, 14) != 0,
        .dense_kept = sqlite3_column_int(s, 15) != 0,
        .from_snapshot = sqlite3_column_int(s, 16) != 0,
        .children = sqlite3_column_int(s, 17),
        .shared = sqlite3_column_int(s, 18) != 0,
        .refines = sqlite3_column_int64(s, 19),
        .experts = sqlite3_column_int(s, 20),
    };
}

static int read_versions(struct db_txn *t, const char *statement, const struct sql_value *values,
                         int value_count, struct version **out, int *count)
{
    void *list;
    int err = sql_read_rows(t, statement, values, value_count, sizeof **out, read_version, &list,
                        count);
    if (!err)
        *out = list;
    return err;
}

static int read_single(struct db_txn *t, const char *statement, const struct sql_value *values,
                       int value_count, struct version *out)
{
    struct version *list;
    int count;
    int err = read_versions(t, statement, values, value_count, &list, &count);
    if (err)
        return err;
    if (count == 1)
        *out = list[0];
    free(list);
    return count == 1 ? 0 : ERR_MISSING;
}

int versions_active(struct db_txn *t, struct version *out)
{
    return read_single(t, COLUMNS "WHERE active = 1", SQL_NONE, out);
}

int versions_get(struct db_txn *t, int64_t version, struct version *out)
{
    return read_single(t, COLUMNS "WHERE version = ?1 AND discarded_ms IS NULL",
                       SQL(sql_int(version)), out);
}

int versions_list(struct db_txn *t, int64_t before, int limit, struct version **out, int *count)
{
    return read_versions(t,
                         COLUMNS "WHERE (?1 = 0 OR version < ?1) AND discarded_ms IS NULL "
                                 "ORDER BY version DESC LIMIT ?2",
                         SQL(sql_int(before), sql_int(limit)), out, count);
}

int versions_chain(struct db_txn *t, int64_t version, struct version **out, int *count)
{
    return read_versions(t, CHAIN SELECT("s") "JOIN chain ON v = version ORDER BY step",
                         SQL(sql_int(version)), out, count);
}

int versions_next(struct db_txn *t, int64_t *out)
{
    return sql_get_int(t, out, "SELECT coalesce(max(version), 0) + 1 FROM versions", SQL_NONE);
}

int versions_gate(struct db_txn *t, int64_t version, char **out)
{
    sqlite3_stmt *s;
    *out = NULL;
    int err = sql_query(t, &s, "SELECT gate FROM versions WHERE version = ?1",
                        SQL(sql_int(version)));
    if (err)
        return err;
    err = sql_step(t, s);
    if (err > 0)
        err = sql_column_copy(s, 0, out);
    sqlite3_finalize(s);
    return err;
}

bool versions_exists(struct db_txn *t, int64_t version)
{
    struct version v;
    return versions_get(t, version, &v) == 0;
}

static void read_number(sqlite3_stmt *s, void *element)
{
    *(int64_t *)element = sqlite3_column_int64(s, 0);
}

int versions_served(struct db_txn *t, int64_t **out, int *count)
{
    void *list;
    int err = sql_read_rows(t,
                            "SELECT version FROM versions WHERE published = 1 "
                            "ORDER BY active DESC, version DESC",
                            SQL_NONE, sizeof **out, read_number, &list, count);
    if (!err)
        *out = list;
    return err;
}

bool versions_keeps_exemplars(struct db_txn *t, int64_t version)
{
    int64_t count;
    int err = sql_get_int(t, &count,
                          "SELECT count(*) FROM versions WHERE version = ?1 "
                          "AND (published = 1 OR discarded_ms IS NULL)",
                          SQL(sql_int(version)));
    return err || count > 0;
}

/* ---- measurements ---- */

static void read_score(sqlite3_stmt *s, void *element)
{
    *(struct class_score *)element = (struct class_score){
        .version = sqlite3_column_int64(s, 0),
        .class_index = sqlite3_column_int(s, 1),
        .total = sqlite3_column_int64(s, 2),
        .correct = sqlite3_column_int64(s, 3),
    };
}

int evaluations_active(struct db_txn *t, struct class_score **out, int *count)
{
    void *list;
    int err = sql_read_rows(t,
                            "SELECT e.version, e.class, e.total, e.correct FROM evaluations e "
                            "JOIN versions v ON v.version = e.version "
                            "AND v.from_snapshot = e.pruned WHERE v.active = 1 ORDER BY e.class",
                            SQL_NONE, sizeof **out, read_score, &list, count);
    if (!err)
        *out = list;
    return err;
}

int evaluations_chain(struct db_txn *t, struct class_score **out, int *count)
{
    void *list;
    int err = sql_read_rows(t,
                            CHAIN "SELECT e.version, e.class, e.total, e.correct FROM evaluations e "
                                  "JOIN chain ON v = e.version AND s = e.pruned "
                                  "ORDER BY e.version, e.class",
                            SQL(sql_int(0)), sizeof **out, read_score, &list, count);
    if (!err)
        *out = list;
    return err;
}

static void read_cell(sqlite3_stmt *s, void *element)
{
    *(struct confusion_cell *)element = (struct confusion_cell){
        .true_class = sqlite3_column_int(s, 0),
        .predicted_class = sqlite3_column_int(s, 1),
        .count = sqlite3_column_int64(s, 2),
    };
}

int confusion_list(struct db_txn *t, int64_t version, bool pruned, struct confusion_cell **out,
                   int *count)
{
    void *list;
    int err = sql_read_rows(t,
                            "SELECT true_class, predicted_class, count FROM confusion WHERE "
                            "version = ?1 AND pruned = ?2 ORDER BY true_class, predicted_class",
                            SQL(sql_int(version), sql_int(pruned)), sizeof **out, read_cell,
                            &list, count);
    if (!err)
        *out = list;
    return err;
}

/* ---- writing ---- */

static int deactivate(struct db_txn *t)
{
    return sql_run(t, "UPDATE versions SET active = 0 WHERE active = 1", SQL_NONE);
}

/* Whether the parent served from its snapshot when it was built on: now, or when the version was made that this one refines. */
static int insert_row(struct db_txn *t, const struct version *v)
{
    return sql_run(t,
                   "INSERT INTO versions (version, parent, job, step, active, classes, "
                   "model_bytes, snapshot_bytes, dense_bytes, sparsity, accuracy_dense, "
                   "accuracy_pruned, created_ms, train_seconds, published, refines, experts, "
                   "parent_from_snapshot) "
                   "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?5, ?15, ?16, "
                   "coalesce((SELECT parent_from_snapshot FROM versions WHERE version = ?15), "
                   "(SELECT from_snapshot FROM versions WHERE version = ?2), 0))",
                   SQL(sql_int(v->version), sql_int_or_null(v->parent), sql_int(v->job),
                       sql_int(v->step), sql_int(v->active), sql_int(v->classes),
                       sql_int(v->model_bytes), sql_int(v->snapshot_bytes),
                       sql_int(v->dense_bytes), sql_real(v->sparsity),
                       sql_real(v->accuracy_dense), sql_real(v->accuracy_pruned),
                       sql_int(v->created_ms), sql_real(v->train_seconds),
                       sql_int_or_null(v->refines), sql_int(v->experts)));
}

/* A class's row of the confusion matrix, and its score. */
static int insert_measured(struct db_txn *t, int64_t version, bool pruned,
                           const struct evaluation *e, int c)
{
    uint32_t total = evaluation_total(e, c);
    if (total == 0)
        return 0; /* not measured */
    int err = sql_run(t,
                      "INSERT INTO evaluations (version, pruned, class, total, correct) "
                      "VALUES (?1, ?2, ?3, ?4, ?5)",
                      SQL(sql_int(version), sql_int(pruned), sql_int(c), sql_int(total),
                          sql_int(evaluation_correct(e, c))));
    for (int predicted = 0; predicted < e->classes && !err; predicted++) {
        uint32_t cell = e->confusion[(size_t)c * (size_t)e->classes + (size_t)predicted];
        if (cell)
            err = sql_run(t,
                          "INSERT INTO confusion (version, pruned, true_class, predicted_class, "
                          "count) VALUES (?1, ?2, ?3, ?4, ?5)",
                          SQL(sql_int(version), sql_int(pruned), sql_int(c), sql_int(predicted),
                              sql_int(cell)));
    }
    return err;
}

int versions_insert(struct db_txn *t, const struct version *v, const char *const *names, int first,
                    const struct evaluation *dense, const struct evaluation *pruned)
{
    int err = v->active ? deactivate(t) : 0;
    if (!err)
        err = insert_row(t, v);
    if (!err && v->active)
        err = sql_run(t,
                      CHAIN "UPDATE versions SET dense_kept = 0 "
                            "WHERE version IN (SELECT v FROM chain) AND version <> ?1",
                      SQL(sql_int(v->version)));
    for (int c = first; c < v->classes && !err; c++)
        err = sql_run(t,
                      "INSERT INTO classes (class, name, since_version, step) "
                      "VALUES (?1, ?2, ?3, ?4)",
                      SQL(sql_int(c), sql_text(names[c]), sql_int(v->version), sql_int(v->step)));
    for (int c = 0; c < v->classes && !err; c++) {
        err = insert_measured(t, v->version, false, dense, c);
        if (!err)
            err = insert_measured(t, v->version, true, pruned, c);
    }
    return err;
}

int versions_set_gate(struct db_txn *t, int64_t version, const char *json)
{
    return sql_run_one(t, "UPDATE versions SET gate = ?2 WHERE version = ?1",
                       SQL(sql_int(version), sql_text(json)));
}

int versions_activate(struct db_txn *t, int64_t version)
{
    int err = deactivate(t);
    return err ? err
               : sql_run_one(t,
                             "UPDATE versions SET active = 1, published = 1, "
                             "from_snapshot = 1 - dense_kept "
                             "WHERE version = ?1 AND discarded_ms IS NULL",
                             SQL(sql_int(version)));
}

int versions_discard(struct db_txn *t, int64_t version)
{
    struct version v;
    int64_t jobs;
    int err = versions_get(t, version, &v);
    if (!err)
        err = sql_get_int(t, &jobs,
                          "SELECT count(*) FROM jobs WHERE base = ?1 "
                          "AND state IN ('running', 'cancelling')",
                          SQL(sql_int(version)));
    if (!err && (v.active || v.children > 0 || jobs > 0))
        err = ERR_INVALID;
    return err ? err
               : sql_run(t,
                         "UPDATE versions SET discarded_ms = ?2, dense_kept = 0 WHERE version = ?1",
                         SQL(sql_int(version), sql_int(db_now_ms())));
}
