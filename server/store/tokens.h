/*
 * tokens.h - bearer tokens: their making and their rows.
 *
 * A token is "acr_" and 256 random bits in base64url, shown once. A value of that entropy cannot be
 * guessed from its hash, so a plain BLAKE2b-256 is kept and no slow password hash is needed.
 *
 * Functions take the connection: db_reader() on the loop for those that read, or the txn of a write
 * function.
 */
#ifndef ACCRETED_SERVER_STORE_TOKENS_H
#define ACCRETED_SERVER_STORE_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/store/db.h"

enum {
    TOKENS_MAX = 256,
    TOKEN_TEXT_BYTES = 48, /* "acr_", 43 characters and the zero */
    TOKEN_NAME_BYTES = 65,
    TOKEN_HASH_BYTES = 65, /* hex */
};

struct token {
    int64_t id;
    char name[TOKEN_NAME_BYTES]; /* "" or printable ASCII */
    bool admin;                  /* else scope predict */
    char hash[TOKEN_HASH_BYTES];
    int64_t created_ms;
};

/* "predict" or "admin". Static storage. */
const char *token_scope_name(bool admin);
/* False: no such scope. */
bool token_scope_parse(const char *text, bool *admin);
/* Up to 64 printable ASCII characters. */
bool token_name_is_valid(const char *name);

/* A fresh random token. */
void token_make(char text[TOKEN_TEXT_BYTES]);
/* The hash of anything that was presented as a token. */
void token_hash(const char *text, char hash[TOKEN_HASH_BYTES]);

/* Oldest first; `out` has room for TOKENS_MAX. */
int tokens_list(struct db_txn *t, struct token *out, int *count);
/* Sets tk->id. ERR_NOSPACE: there are TOKENS_MAX already. ERR_INVALID: scope predict, and nobody
 * could administer: there is no admin token yet. */
int tokens_insert(struct db_txn *t, struct token *tk);
/* ERR_MISSING. ERR_INVALID: the last admin token, unless `allow_last`. */
int tokens_delete(struct db_txn *t, int64_t id, bool allow_last);

#endif
