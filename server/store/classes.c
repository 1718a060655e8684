/*
 * classes.c - see classes.h.
 */
#include "server/store/classes.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/sql.h"
#include "server/store/versions.h"

#define NAMED "name = ?1 AND retired_ms IS NULL"

/* SQL, to stand before a statement: in knowing (v, c), every version that knows a class for whose row `which` holds, and its index. */
#define KNOWING(which)                                                                             \
    "WITH RECURSIVE knowing (v, c) AS (SELECT since_version, class FROM classes WHERE " which " "  \
    "UNION SELECT version, c FROM versions JOIN knowing ON v IN (parent, refines)) "

/* ---- reading ---- */

static void read_class(sqlite3_stmt *s, void *element)
{
    struct class_row *c = element;
    *c = (struct class_row){
        .class_index = sqlite3_column_int(s, 0),
        .since_version = sqlite3_column_int64(s, 2),
        .step = sqlite3_column_int(s, 3),
        .test_images = sqlite3_column_int64(s, 4),
        .id = sqlite3_column_int64(s, 5),
        .position = sqlite3_column_type(s, 6) == SQLITE_NULL ? 0 : -1,
    };
    sql_column_text(s, 1, c->name, sizeof c->name);
}

int classes_of(struct db_txn *t, int64_t version, struct class_row **out, int *count)
{
    void *list;
    int err = sql_read_rows(
        t,
        VERSIONS_CHAIN("version = ?1 OR (?1 = 0 AND active = 1)")
        "SELECT class, name, since_version, step, "
        "(SELECT coalesce(sum(test_count), 0) FROM batch_classes "
        "WHERE label = name AND retired_ms IS NULL), id, retired_ms "
        "FROM classes WHERE since_version IN (SELECT v FROM chain) ORDER BY class",
        SQL(sql_int(version)), sizeof **out, read_class, &list, count);
    if (err)
        return err;
    *out = list;
    for (int i = 0, live = 0; i < *count; i++)
        if ((*out)[i].position == 0)
            (*out)[i].position = live++;
    return 0;
}

int classes_live(const struct class_row *classes, int count)
{
    int live = 0;
    for (int i = 0; i < count; i++)
        live += classes[i].position >= 0;
    return live;
}

int classes_find(struct db_txn *t, const char *name, struct class_row *out)
{
    struct class_row *list;
    int count;
    int err = classes_of(t, 0, &list, &count);
    if (err)
        return err;
    err = ERR_MISSING;
    for (int i = 0; i < count && err; i++) {
        if (list[i].position < 0 || strcmp(list[i].name, name) != 0)
            continue;
        *out = list[i];
        err = 0;
    }
    free(list);
    return err;
}

int classes_name_owner(struct db_txn *t, const char *name, int64_t *version,
                       char batch[BATCH_NAME_BYTES])
{
    sqlite3_stmt *s;
    batch[0] = '\0';
    int err = sql_get_int(t, version,
                          KNOWING(NAMED)
                          "SELECT v FROM knowing JOIN versions ON version = v "
                          "WHERE discarded_ms IS NULL ORDER BY v LIMIT 1",
                          SQL(sql_text(name)));
    if (err != ERR_MISSING)
        return err;
    *version = 0;
    err = sql_query(t, &s,
                    "SELECT b.name FROM batch_classes c JOIN batches b ON b.id = c.batch "
                    "WHERE c.label = ?1 AND (c.test_count > 0 "
                    "OR (c.train_count > 0 AND b.state <> 'consumed')) "
                    "ORDER BY b.id LIMIT 1",
                    SQL(sql_text(name)));
    if (err)
        return err;
    err = sql_step(t, s);
    if (err > 0)
        sql_column_text(s, 0, batch, BATCH_NAME_BYTES);
    sqlite3_finalize(s);
    return err > 0 ? 0 : err < 0 ? err : ERR_MISSING;
}

int classes_known_beside(struct db_txn *t, int64_t id, int64_t version, bool *known)
{
    int64_t count;
    int err = sql_get_int(t, &count,
                          KNOWING("id = ?1")
                          "SELECT count(*) FROM knowing JOIN versions ON version = v "
                          "WHERE discarded_ms IS NULL AND version <> ?2",
                          SQL(sql_int(id), sql_int(version)));
    if (!err)
        *known = count > 0;
    return err;
}

static void read_rename(sqlite3_stmt *s, void *element)
{
    struct rename *r = element;
    sql_column_text(s, 0, r->old, sizeof r->old);
    sql_column_text(s, 1, r->new, sizeof r->new);
    r->before_version = sqlite3_column_int64(s, 2);
}

int renames_list(struct db_txn *t, struct rename **out, int *count)
{
    void *list;
    int err = sql_read_rows(t, "SELECT old, new, before_version FROM renames ORDER BY id", SQL_NONE,
                            sizeof **out, read_rename, &list, count);
    if (!err)
        *out = list;
    return err;
}

const char *renames_apply(const struct rename *renames, int count, const char *label,
                          int64_t version)
{
    for (int i = 0; i < count; i++)
        if (version < renames[i].before_version && strcmp(renames[i].old, label) == 0)
            label = renames[i].new;
    return label;
}

static void read_file(sqlite3_stmt *s, void *element)
{
    *(struct class_file *)element = (struct class_file){
        .version = sqlite3_column_int64(s, 0), .class_index = sqlite3_column_int(s, 1)};
}

int classes_to_erase(struct db_txn *t, struct class_file **out, int *count)
{
    void *list;
    int err = sql_read_rows(t,
                            KNOWING("retired_ms IS NOT NULL AND erased = 0")
                            "SELECT v, c FROM knowing JOIN versions ON version = v "
                            "WHERE discarded_ms IS NULL ORDER BY v, c",
                            SQL_NONE, sizeof **out, read_file, &list, count);
    if (!err)
        *out = list;
    return err;
}

static void read_name(sqlite3_stmt *s, void *element)
{
    sql_column_text(s, 0, element, LABEL_BYTES);
}

int classes_to_erase_names(struct db_txn *t, char (**out)[LABEL_BYTES], int *count)
{
    void *list;
    int err = sql_read_rows(t,
                            "SELECT DISTINCT name FROM classes "
                            "WHERE retired_ms IS NOT NULL AND erased = 0",
                            SQL_NONE, LABEL_BYTES, read_name, &list, count);
    if (!err)
        *out = list;
    return err;
}

/* ---- renaming ---- */

/* A batch may have taught a class of the new name that is retired since: its count goes to the row
 * that is left. */
static int merge_batches(struct db_txn *t, const char *old, const char *new)
{
    int err = sql_run(t,
                      "UPDATE batch_classes SET train_count = train_count + ("
                      "SELECT o.train_count FROM batch_classes o "
                      "WHERE o.batch = batch_classes.batch AND o.label = ?2) "
                      "WHERE label = ?1 AND EXISTS (SELECT 1 FROM batch_classes o "
                      "WHERE o.batch = batch_classes.batch AND o.label = ?2)",
                      SQL(sql_text(old), sql_text(new)));
    return err ? err
               : sql_run(t,
                         "DELETE FROM batch_classes WHERE label = ?2 AND batch IN "
                         "(SELECT batch FROM batch_classes WHERE label = ?1)",
                         SQL(sql_text(old), sql_text(new)));
}

int classes_rename(struct db_txn *t, const char *old, const char *new)
{
    int64_t rows;
    int err = sql_get_int(t, &rows,
                          "SELECT count(*) FROM classes WHERE name = ?1 AND retired_ms IS NULL",
                          SQL(sql_text(old)));
    if (!err && rows == 0)
        err = ERR_MISSING;
    if (!err)
        err = sql_run(t, "UPDATE classes SET name = ?2 WHERE name = ?1 AND retired_ms IS NULL",
                      SQL(sql_text(old), sql_text(new)));
    if (!err)
        err = merge_batches(t, old, new);
    if (!err)
        err = sql_run(t,
                      "UPDATE batch_classes SET stored = coalesce(stored, label), label = ?2 "
                      "WHERE label = ?1",
                      SQL(sql_text(old), sql_text(new)));
    return err ? err
               : sql_run(t,
                         "INSERT INTO renames (old, new, before_version) "
                         "SELECT ?1, ?2, coalesce(max(version), 0) + 1 FROM versions",
                         SQL(sql_text(old), sql_text(new)));
}

/* ---- retiring ---- */

/* Over all classes that are left; NULL: none was measured. */
#define MEASURED(of_snapshot)                                                                      \
    "(SELECT CAST(sum(correct) AS REAL) / sum(total) FROM evaluations e "                          \
    "WHERE e.version = versions.version AND pruned = " #of_snapshot ")"

static int forget_measured(struct db_txn *t, const char *name)
{
    int err = sql_run(t,
                      KNOWING(NAMED) "DELETE FROM confusion WHERE EXISTS (SELECT 1 FROM knowing "
                              "WHERE v = version AND c IN (true_class, predicted_class))",
                      SQL(sql_text(name)));
    if (!err)
        err = sql_run(t,
                      KNOWING(NAMED) "DELETE FROM evaluations WHERE EXISTS "
                              "(SELECT 1 FROM knowing WHERE v = version AND c = class)",
                      SQL(sql_text(name)));
    return err ? err
               : sql_run(t,
                         KNOWING(NAMED) "UPDATE versions SET accuracy_dense = " MEASURED(0) ", "
                                 "accuracy_pruned = " MEASURED(1) " "
                                 "WHERE version IN (SELECT v FROM knowing)",
                         SQL(sql_text(name)));
}

int classes_retire(struct db_txn *t, const char *name)
{
    int err = forget_measured(t, name);
    if (err)
        return err;
    return sql_run(t, "UPDATE classes SET retired_ms = ?2 WHERE name = ?1 AND retired_ms IS NULL",
                   SQL(sql_text(name), sql_int(db_now_ms())));
}

int classes_set_erased(struct db_txn *t)
{
    return sql_run(t, "UPDATE classes SET erased = 1 WHERE retired_ms IS NOT NULL", SQL_NONE);
}
