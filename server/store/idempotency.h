/*
 * idempotency.h - rows of the Idempotency-Keys: what a POST was answered, for a day.
 *
 * Write functions take the txn of a write function and run on the db thread.
 */
#ifndef ACCRETED_SERVER_STORE_IDEMPOTENCY_H
#define ACCRETED_SERVER_STORE_IDEMPOTENCY_H

#include <stdint.h>

#include "server/store/db.h"

enum {
    IDEMPOTENCY_KEY_BYTES = 256,  /* 255 characters and the zero */
    IDEMPOTENCY_HASH_BYTES = 65,  /* hex */
    IDEMPOTENCY_KEYS_MAX = 10000, /* kept at once */
    IDEMPOTENCY_SECONDS = 24 * 3600,
};

struct idempotency_key {
    int64_t owner; /* a token's id; 0: there is no token */
    char key[IDEMPOTENCY_KEY_BYTES];
    char request_hash[IDEMPOTENCY_HASH_BYTES];
};

struct idempotent_reply {
    int status;
    char *content_type, *headers, *body; /* owned; headers: a JSON object */
};
void idempotent_reply_release(struct idempotent_reply *r);

enum idempotency_claim {
    CLAIM_FRESH,     /* never seen: it is the caller's to answer */
    CLAIM_IN_FLIGHT, /* the first request is under way */
    CLAIM_REPLAY,    /* answered; the reply is set */
    CLAIM_REUSED,    /* seen with another request */
};

/* Drops what is a day old, then looks the key up and notes it if it is new. `out_reply` is set for
 * CLAIM_REPLAY. ERR_NOSPACE: IDEMPOTENCY_KEYS_MAX are kept already (or the disk is full). */
int idempotency_claim(struct db_txn *t, const struct idempotency_key *k,
                      enum idempotency_claim *out, struct idempotent_reply *out_reply);
/* Keeps the reply to a claimed key. */
int idempotency_keep(struct db_txn *t, const struct idempotency_key *k,
                     const struct idempotent_reply *r);
/* Forgets a claimed key that came to nothing. */
int idempotency_drop(struct db_txn *t, const struct idempotency_key *k);
/* Forgets all that are under way: at the start of the daemon, whose predecessor left them. */
int idempotency_drop_unfinished(struct db_txn *t, void *unused);

#endif
