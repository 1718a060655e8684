/*
 * totals.c - see totals.h.
 */
#include "server/store/totals.h"

#include "server/store/sql.h"
#include "server/store/versions.h"

static const char statement[] =
    "SELECT b.test, b.test_bytes, b.train, b.train_bytes, v.n, v.snapshot_bytes, v.dense,"
    " v.model_bytes, (" VERSIONS_CHAIN("active = 1")
    "SELECT count(*) FROM classes WHERE retired_ms IS NULL"
    " AND since_version IN (SELECT v FROM chain)),"
    " (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size) "
    "FROM (SELECT coalesce(sum(test_count), 0) AS test, coalesce(sum(test_bytes), 0) AS test_bytes,"
    " coalesce(sum(train_count) FILTER (WHERE state <> 'consumed'), 0) AS train,"
    " coalesce(sum(train_bytes) FILTER (WHERE state <> 'consumed'), 0) AS train_bytes"
    " FROM batches) AS b,"
    " (SELECT count(*) AS n, coalesce(sum(snapshot_bytes), 0) AS snapshot_bytes,"
    " count(*) FILTER (WHERE dense_kept = 1) AS dense,"
    " coalesce(sum(model_bytes) FILTER (WHERE dense_kept = 1), 0) AS model_bytes"
    " FROM versions WHERE discarded_ms IS NULL) AS v";

int totals_read(struct db_txn *t, struct totals *out)
{
    sqlite3_stmt *s;
    int64_t columns[10] = {0};
    int err = sql_query(t, &s, statement, SQL_NONE);
    if (err)
        return err;
    int row = sql_step(t, s);
    for (int i = 0; row == 1 && i < 10; i++)
        columns[i] = sqlite3_column_int64(s, i);
    sqlite3_finalize(s);
    if (row != 1)
        return row < 0 ? row : ERR_MISSING;
    *out = (struct totals){
        .test_images = {columns[0], columns[1]},
        .training_images = {columns[2], columns[3]},
        .snapshots = {columns[4], columns[5]},
        .models = {columns[6], columns[7]},
        .classes = columns[8],
        .database_bytes = columns[9],
    };
    return 0;
}
