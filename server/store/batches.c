/*
 * batches.c - see batches.h. Rows only; the pack files are ingest's and the worker's.
 */
#include "server/store/batches.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/store/sql.h"

#define COLUMNS                                                                                    \
    "SELECT id, name, hash, request_hash, state, train_count, test_count, train_bytes, "           \
    "test_bytes, rejected, duplicates, created_ms, consumed_version, verdicts FROM batches "

void batch_release(struct batch *b)
{
    free(b->verdicts);
    free(b->classes);
    b->verdicts = NULL;
    b->classes = NULL;
    b->class_count = 0;
}

void batches_release(struct batch *batches, int count)
{
    for (int i = 0; i < count; i++)
        batch_release(&batches[i]);
    free(batches);
}

/* ---- writing ---- */

static int insert_classes(struct db_txn *txn, const struct batch *b)
{
    int err = 0;
    for (int i = 0; i < b->class_count && !err; i++) {
        const struct batch_class *c = &b->classes[i];
        err = sql_run(txn,
                      "INSERT INTO batch_classes (batch, position, label, train_count, test_count) "
                      "VALUES (?1, ?2, ?3, ?4, ?5)",
                      SQL(sql_int(b->id), sql_int(i), sql_text(c->label), sql_int(c->train_count),
                          sql_int(c->test_count)));
    }
    return err;
}

int batches_insert(struct db_txn *txn, struct batch *b)
{
    int err = sql_run(txn,
                      "INSERT INTO batches (name, hash, request_hash, train_count, test_count, "
                      "train_bytes, test_bytes, rejected, duplicates, verdicts, created_ms) "
                      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                      SQL(sql_text(b->name), sql_text(b->hash), sql_text(b->request_hash),
                          sql_int(b->train_count), sql_int(b->test_count), sql_int(b->train_bytes),
                          sql_int(b->test_bytes), sql_int(b->rejected), sql_int(b->duplicates),
                          sql_text(b->verdicts), sql_int(b->created_ms)));
    if (err)
        return err;
    b->id = sql_last_id(txn);
    strcpy(b->state, "ready");
    return insert_classes(txn, b);
}

int batches_drop_test(struct db_txn *txn, int64_t id, const char *old_hash, const char *hash,
                      const char *label, int64_t test_bytes)
{
    int err = sql_run_one(txn,
                          "UPDATE batches SET hash = ?3, request_hash = ?3, test_bytes = ?5, "
                          "test_count = test_count - (SELECT test_count FROM batch_classes "
                          "WHERE batch = ?1 AND label = ?4) WHERE id = ?1 AND hash = ?2",
                          SQL(sql_int(id), sql_text(old_hash), sql_text(hash), sql_text(label),
                              sql_int(test_bytes)));
    return err ? err
               : sql_run_one(txn,
                             "UPDATE batch_classes SET test_count = 0 "
                             "WHERE batch = ?1 AND label = ?2",
                             SQL(sql_int(id), sql_text(label)));
}

int batches_delete(struct db_txn *txn, int64_t id)
{
    struct batch b;
    int err = batches_load(txn, id, &b);
    if (err)
        return err;
    bool used = strcmp(b.state, "in_use") == 0;
    batch_release(&b);
    return used ? ERR_INVALID
                : sql_run_one(txn, "DELETE FROM batches WHERE id = ?1", SQL(sql_int(id)));
}

/* ---- reading ---- */

static int read_classes(struct db_txn *txn, struct batch *b)
{
    sqlite3_stmt *s;
    int capacity = 0;
    int err = sql_query(txn, &s,
                        "SELECT label, train_count, test_count, coalesce(stored, label) "
                        "FROM batch_classes WHERE batch = ?1 "
                        "ORDER BY position",
                        SQL(sql_int(b->id)));
    if (err)
        return err;
    while ((err = sql_step(txn, s)) > 0) {
        if (b->class_count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            struct batch_class *more = realloc(b->classes, (size_t)capacity * sizeof *more);
            if (!more) {
                err = ERR_NOMEM;
                break;
            }
            b->classes = more;
        }
        struct batch_class *c = &b->classes[b->class_count++];
        sql_column_text(s, 0, c->label, sizeof c->label);
        c->train_count = sqlite3_column_int64(s, 1);
        c->test_count = sqlite3_column_int64(s, 2);
        sql_column_text(s, 3, c->stored, sizeof c->stored);
    }
    sqlite3_finalize(s);
    return err;
}

static int read_row(struct db_txn *txn, sqlite3_stmt *s, struct batch *b)
{
    *b = (struct batch){
        .id = sqlite3_column_int64(s, 0),
        .train_count = sqlite3_column_int64(s, 5),
        .test_count = sqlite3_column_int64(s, 6),
        .train_bytes = sqlite3_column_int64(s, 7),
        .test_bytes = sqlite3_column_int64(s, 8),
        .rejected = sqlite3_column_int64(s, 9),
        .duplicates = sqlite3_column_int64(s, 10),
        .created_ms = sqlite3_column_int64(s, 11),
        .consumed_version = sqlite3_column_int64(s, 12),
    };
    sql_column_text(s, 1, b->name, sizeof b->name);
    sql_column_text(s, 2, b->hash, sizeof b->hash);
    sql_column_text(s, 3, b->request_hash, sizeof b->request_hash);
    sql_column_text(s, 4, b->state, sizeof b->state);
    int err = sql_column_copy(s, 13, &b->verdicts);
    if (!err)
        err = read_classes(txn, b);
    if (err)
        batch_release(b);
    return err;
}

/* All rows of a statement that begins with COLUMNS. */
static int read_many(struct db_txn *txn, const char *statement, const struct sql_value *values,
                     int value_count, struct batch **out, int *count)
{
    sqlite3_stmt *s;
    struct batch *list = NULL;
    int n = 0, capacity = 0;
    int err = sql_query(txn, &s, statement, values, value_count);
    if (err)
        return err;
    while ((err = sql_step(txn, s)) > 0) {
        if (n == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            struct batch *more = realloc(list, (size_t)capacity * sizeof *more);
            if (!more) {
                err = ERR_NOMEM;
                break;
            }
            list = more;
        }
        err = read_row(txn, s, &list[n]);
        if (err)
            break;
        n++;
    }
    sqlite3_finalize(s);
    if (err) {
        batches_release(list, n);
        return err;
    }
    *out = list;
    *count = n;
    return 0;
}

static int read_one(struct db_txn *txn, const char *statement, struct sql_value key,
                    struct batch *out)
{
    struct batch *list;
    int count;
    int err = read_many(txn, statement, &key, 1, &list, &count);
    if (err)
        return err;
    if (count == 0)
        err = ERR_MISSING;
    else
        *out = list[0]; /* unique keys or LIMIT 1: there is no second one */
    free(list);
    return err;
}

int batches_load(struct db_txn *txn, int64_t id, struct batch *out)
{
    return read_one(txn, COLUMNS "WHERE id = ?1", sql_int(id), out);
}

int batches_load_named(struct db_txn *txn, const char *name, struct batch *out)
{
    return read_one(txn, COLUMNS "WHERE name = ?1", sql_text(name), out);
}

int batches_get(struct db *db, const char *name, struct batch *out)
{
    return batches_load_named(db_reader(db), name, out);
}

int batches_find_request(struct db *db, const char *request_hash, struct batch *out)
{
    return read_one(db_reader(db), COLUMNS "WHERE request_hash = ?1 ORDER BY id LIMIT 1",
                    sql_text(request_hash), out);
}

int batches_list(struct db *db, int64_t before_id, int limit, struct batch **out, int *count)
{
    return read_many(db_reader(db),
                     COLUMNS "WHERE ?1 = 0 OR id < ?1 ORDER BY id DESC LIMIT ?2",
                     SQL(sql_int(before_id), sql_int(limit)), out, count);
}

int batches_load_test(struct db_txn *txn, struct batch **out, int *count)
{
    return read_many(txn, COLUMNS "WHERE test_count > 0 ORDER BY id", SQL_NONE, out, count);
}

bool batches_has_hash(struct db_txn *txn, const char *hash)
{
    int64_t id;
    return sql_get_int(txn, &id, "SELECT id FROM batches WHERE hash = ?1 LIMIT 1",
                       SQL(sql_text(hash))) != ERR_MISSING;
}

int batches_load_consumed(struct db_txn *txn, int64_t version, struct batch **out, int *count)
{
    return read_many(txn,
                     COLUMNS "WHERE state = 'consumed' AND train_count > 0 "
                             "AND (?1 = 0 OR consumed_version = ?1) ORDER BY id",
                     SQL(sql_int(version)), out, count);
}

#define HOLDING "id IN (SELECT batch FROM batch_classes WHERE label = ?1 AND "

int batches_load_measuring(struct db_txn *txn, const char *label, struct batch **out, int *count)
{
    return read_many(txn,
                     COLUMNS "WHERE " HOLDING "test_count > 0) "
                             "AND (state = 'consumed' OR train_count = 0) ORDER BY id",
                     SQL(sql_text(label)), out, count);
}

int batches_load_waiting(struct db_txn *txn, const char *label, struct batch **out, int *count)
{
    return read_many(txn,
                     COLUMNS "WHERE " HOLDING "train_count + test_count > 0) "
                             "AND state <> 'consumed' AND train_count > 0 ORDER BY id",
                     SQL(sql_text(label)), out, count);
}
