/*
 * batches.h - rows of the uploaded batches and what they hold.
 *
 * A batch's images lie in up to two pack files (store/pack.h): batches/<hash>.train, deleted when a
 * job's model is published, and batches/<hash>.test, which never trains and is kept until deleted.
 * Read functions run on the loop (reading connection); write functions take the transaction.
 */
#ifndef ACCRETED_SERVER_STORE_BATCHES_H
#define ACCRETED_SERVER_STORE_BATCHES_H

#include <stdbool.h>
#include <stdint.h>

#include "server/store/db.h"

enum { BATCH_NAME_BYTES = 128, LABEL_BYTES = 65, HASH_HEX_BYTES = 65 };

struct batch_class {
    char label[LABEL_BYTES];
    char stored[LABEL_BYTES]; /* what the packs call it; from rows only */
    int64_t train_count, test_count;
};

struct batch {
    int64_t id;
    char name[BATCH_NAME_BYTES];
    char hash[HASH_HEX_BYTES];      /* BLAKE2b-256 over the accepted images and labels, hex */
    char request_hash[HASH_HEX_BYTES]; /* over the body as sent and its options: PUT of the same is 200 */
    char state[16];                 /* "ready": may be trained on; "in_use": by a job; "consumed": published;
                                       training images deleted */
    int64_t train_count, test_count, train_bytes, test_bytes;
    int64_t rejected, duplicates;
    int64_t created_ms;
    int64_t consumed_version;       /* 0 = none */
    char *verdicts;                 /* owned; JSON array text: rejected and duplicate files with reasons, at most 100 */
    struct batch_class *classes;    /* owned */
    int class_count;
};

void batch_release(struct batch *b);

/* Writes a batch and its class rows; sets b->id. ERR_INVALID: the name is taken. */
int batches_insert(struct db_txn *txn, struct batch *b);
/* By name. ERR_MISSING. */
int batches_get(struct db *db, const char *name, struct batch *out);
int batches_find_request(struct db *db, const char *request_hash, struct batch *out);
/* Newest first, ids below `before_id` (0 = from the newest), at most `limit`; *out is an array of
 * *count, release each and free. */
int batches_list(struct db *db, int64_t before_id, int limit, struct batch **out, int *count);
/* On the connection at hand. ERR_MISSING. */
int batches_load(struct db_txn *txn, int64_t id, struct batch *out);
int batches_load_named(struct db_txn *txn, const char *name, struct batch *out);
/* Every batch that has test images, oldest first, for evaluation. */
int batches_load_test(struct db_txn *txn, struct batch **out, int *count);
/* Every batch with training images that was consumed by `version` (0: by any): their files are to
 * be gone. */
int batches_load_consumed(struct db_txn *txn, int64_t version, struct batch **out, int *count);
/* Does any batch own the packs called `hash`? */
bool batches_has_hash(struct db_txn *txn, const char *hash);
void batches_release(struct batch *batches, int count); /* each, and the array */

/* Batches whose test images measure the class `label`: learned ones, and those with nothing but test
 * images. */
int batches_load_measuring(struct db_txn *txn, const char *label, struct batch **out, int *count);
/* Batches with images of it that wait to be trained on. */
int batches_load_waiting(struct db_txn *txn, const char *label, struct batch **out, int *count);
/* Test images of `label` are gone from batch `id`, whose packs were called `old_hash`, and are called
 * `hash` now. ERR_MISSING: they are not. */
int batches_drop_test(struct db_txn *txn, int64_t id, const char *old_hash, const char *hash,
                      const char *label, int64_t test_bytes);
/* Its row; jobs keep its name, the caller deletes the files. ERR_MISSING; ERR_INVALID: a job that
 * has not ended uses it. */
int batches_delete(struct db_txn *txn, int64_t id);

#endif
