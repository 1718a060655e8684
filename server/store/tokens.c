/*
 * tokens.c - see tokens.h.
 */
#include "server/store/tokens.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "server/store/sql.h"

enum { SECRET_BYTES = 32, DIGEST_BYTES = 32 };

#define PREFIX "acr_"

const char *token_scope_name(bool admin)
{
    return admin ? "admin" : "predict";
}

bool token_scope_parse(const char *text, bool *admin)
{
    *admin = strcmp(text, "admin") == 0;
    return *admin || strcmp(text, "predict") == 0;
}

bool token_name_is_valid(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++) {
        if (name[i] < 0x20 || name[i] > 0x7e)
            return false;
    }
    return length < TOKEN_NAME_BYTES;
}

void token_make(char text[TOKEN_TEXT_BYTES])
{
    unsigned char secret[SECRET_BYTES];
    randombytes_buf(secret, sizeof secret);
    memcpy(text, PREFIX, sizeof PREFIX - 1);
    sodium_bin2base64(text + sizeof PREFIX - 1, TOKEN_TEXT_BYTES - (sizeof PREFIX - 1), secret,
                      sizeof secret, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(secret, sizeof secret);
}

void token_hash(const char *text, char hash[TOKEN_HASH_BYTES])
{
    unsigned char digest[DIGEST_BYTES];
    crypto_generichash(digest, sizeof digest, (const unsigned char *)text, strlen(text), NULL, 0);
    sodium_bin2hex(hash, TOKEN_HASH_BYTES, digest, sizeof digest);
}

int tokens_list(struct db_txn *t, struct token *out, int *count)
{
    sqlite3_stmt *s;
    char scope[8];
    int n = 0;
    int err = sql_query(t, &s,
                        "SELECT id, name, scope, hash, created_ms FROM tokens ORDER BY id LIMIT ?1",
                        SQL(sql_int(TOKENS_MAX)));
    if (err)
        return err;
    while ((err = sql_step(t, s)) > 0) {
        struct token *tk = &out[n++];
        tk->id = sqlite3_column_int64(s, 0);
        sql_column_text(s, 1, tk->name, sizeof tk->name);
        sql_column_text(s, 2, scope, sizeof scope);
        token_scope_parse(scope, &tk->admin);
        sql_column_text(s, 3, tk->hash, sizeof tk->hash);
        tk->created_ms = sqlite3_column_int64(s, 4);
    }
    sqlite3_finalize(s);
    if (!err)
        *count = n;
    return err;
}

/* How many there are in all, and how many admin ones beside `except`. */
static int count_tokens(struct db_txn *t, int64_t except, int64_t *all, int64_t *admins)
{
    int err = sql_get_int(t, all, "SELECT count(*) FROM tokens", SQL_NONE);
    if (!err)
        err = sql_get_int(t, admins,
                          "SELECT count(*) FROM tokens WHERE scope = 'admin' AND id <> ?1",
                          SQL(sql_int(except)));
    return err;
}

int tokens_insert(struct db_txn *t, struct token *tk)
{
    int64_t all, admins;
    int err = count_tokens(t, 0, &all, &admins);
    if (err)
        return err;
    if (all >= TOKENS_MAX)
        return ERR_NOSPACE;
    if (!tk->admin && admins == 0)
        return ERR_INVALID;
    err = sql_run(t, "INSERT INTO tokens (name, scope, hash, created_ms) VALUES (?1, ?2, ?3, ?4)",
                  SQL(sql_text(tk->name), sql_text(token_scope_name(tk->admin)),
                      sql_text(tk->hash), sql_int(tk->created_ms)));
    if (!err)
        tk->id = sql_last_id(t);
    return err;
}

int tokens_delete(struct db_txn *t, int64_t id, bool allow_last)
{
    int64_t all, admins;
    int err = sql_run_one(t, "DELETE FROM tokens WHERE id = ?1", SQL(sql_int(id)));
    if (!err)
        err = count_tokens(t, id, &all, &admins);
    if (!err && admins == 0 && !allow_last)
        return ERR_INVALID; /* the transaction rolls back */
    return err;
}
