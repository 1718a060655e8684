/*
 * idempotency.c - see idempotency.h.
 */
#include "server/store/idempotency.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/sql.h"

void idempotent_reply_release(struct idempotent_reply *r)
{
    free(r->content_type);
    free(r->headers);
    free(r->body);
    *r = (struct idempotent_reply){0};
}

static int insert(struct db_txn *t, const struct idempotency_key *k, int64_t now_ms)
{
    int64_t count;
    int err = sql_get_int(t, &count, "SELECT count(*) FROM idempotency_keys", SQL_NONE);
    if (err)
        return err;
    if (count >= IDEMPOTENCY_KEYS_MAX)
        return ERR_NOSPACE;
    return sql_run(t,
                   "INSERT INTO idempotency_keys (owner, key, request_hash, created_ms) "
                   "VALUES (?1, ?2, ?3, ?4)",
                   SQL(sql_int(k->owner), sql_text(k->key), sql_text(k->request_hash),
                       sql_int(now_ms)));
}

static int read_row(sqlite3_stmt *s, const struct idempotency_key *k, enum idempotency_claim *out,
                    struct idempotent_reply *reply)
{
    char hash[IDEMPOTENCY_HASH_BYTES];
    sql_column_text(s, 0, hash, sizeof hash);
    *out = strcmp(hash, k->request_hash) != 0 ? CLAIM_REUSED : CLAIM_IN_FLIGHT;
    if (*out == CLAIM_REUSED || sqlite3_column_type(s, 1) == SQLITE_NULL)
        return 0;
    *out = CLAIM_REPLAY;
    reply->status = sqlite3_column_int(s, 1);
    int err = sql_column_copy(s, 2, &reply->content_type);
    if (!err)
        err = sql_column_copy(s, 3, &reply->headers);
    if (!err)
        err = sql_column_copy(s, 4, &reply->body);
    return err;
}

int idempotency_claim(struct db_txn *t, const struct idempotency_key *k,
                      enum idempotency_claim *out, struct idempotent_reply *out_reply)
{
    sqlite3_stmt *s;
    struct idempotent_reply reply = {0};
    int64_t now_ms = db_now_ms();
    int err = sql_run(t, "DELETE FROM idempotency_keys WHERE created_ms <= ?1",
                      SQL(sql_int(now_ms - (int64_t)IDEMPOTENCY_SECONDS * 1000)));
    if (!err)
        err = sql_query(t, &s,
                        "SELECT request_hash, status, content_type, headers, body "
                        "FROM idempotency_keys WHERE owner = ?1 AND key = ?2",
                        SQL(sql_int(k->owner), sql_text(k->key)));
    if (err)
        return err;
    int found = sql_step(t, s);
    if (found > 0)
        err = read_row(s, k, out, &reply);
    sqlite3_finalize(s);
    if (found < 0)
        return found;
    if (found == 0) {
        *out = CLAIM_FRESH;
        err = insert(t, k, now_ms);
    }
    if (err)
        idempotent_reply_release(&reply);
    else
        *out_reply = reply;
    return err;
}

int idempotency_keep(struct db_txn *t, const struct idempotency_key *k,
                     const struct idempotent_reply *r)
{
    return sql_run_one(t,
                       "UPDATE idempotency_keys SET status = ?3, content_type = ?4, headers = ?5, "
                       "body = ?6 WHERE owner = ?1 AND key = ?2 AND status IS NULL",
                       SQL(sql_int(k->owner), sql_text(k->key), sql_int(r->status),
                           sql_text(r->content_type), sql_text(r->headers), sql_text(r->body)));
}

int idempotency_drop(struct db_txn *t, const struct idempotency_key *k)
{
    return sql_run(t, "DELETE FROM idempotency_keys WHERE owner = ?1 AND key = ?2",
                   SQL(sql_int(k->owner), sql_text(k->key)));
}

int idempotency_drop_unfinished(struct db_txn *t, void *unused)
{
    (void)unused;
    return sql_run(t, "DELETE FROM idempotency_keys WHERE status IS NULL", SQL_NONE);
}
