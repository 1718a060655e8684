/*
 * builder.h - private to ingest: collects images under their classes into a pack, with a verdict
 * for each.
 *
 * Images go straight to a staging pack in tmp/; of each only a digest of its pixels and its class
 * stay in memory, for duplicates, the batch's hash and the choice of the holdout. One thread.
 */
#ifndef ACCRETED_SERVER_DECODE_BUILDER_H
#define ACCRETED_SERVER_DECODE_BUILDER_H

#include <jansson.h>

#include "server/decode/image.h"
#include "server/decode/ingest.h"

enum { DIGEST_BYTES = 32, BUILDER_PATH_BYTES = 4352 };

struct builder_record {
    uint8_t digest[DIGEST_BYTES]; /* BLAKE2b-256 of size and pixels */
    int16_t class;
    bool test;
};

/* Shared by builder.c and seal.c; others use the functions. */
struct builder {
    const struct ingest_request *req;
    struct ingest_error *error;
    char stage_path[BUILDER_PATH_BYTES], train_path[BUILDER_PATH_BYTES],
        test_path[BUILDER_PATH_BYTES];
    struct pack_writer *stage; /* NULL once finished */
    uint64_t unchecked_bytes;  /* written since the free space was looked at */
    struct batch_class *classes;
    int class_count;
    struct builder_record *records; /* in the order of the staging pack */
    int count, capacity;
    int *table;                /* open-addressed, by digest: index of the record + 1; 0 = free */
    size_t table_size;         /* a power of two, at least twice the capacity */
    json_t *refused, *ignored; /* verdicts */
    int64_t rejected, duplicates;
};

/* Sets *error and returns `err`, for `return ingest_refuse(...)`. */
int ingest_refuse(struct ingest_error *error, int status, const char *code, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for what is not the upload's fault: ERR_NOMEM and ERR_STOPPED 503, ERR_NOSPACE 507, the
 * rest 500. Returns `err`. */
int ingest_fail(struct ingest_error *error, int err);

/* All return 0, or negative with *error (that of builder_new) filled: the upload is over. */
int builder_new(struct builder **out, const struct ingest_request *req, struct ingest_error *error);
void builder_free(struct builder *b); /* removes what it wrote; NULL is fine */

/* Index of the class, made when new. Refuses labels that are not valid (bad_label) and too many of
 * them. */
int builder_class(struct builder *b, const char *label, int *index);
/* An encoded file (NULL data: over the limit), or raw pixels (HWC; `image` has its label, shape and
 * data; the rest is filled in): judged, and stored when accepted. */
int builder_file(struct builder *b, const char *file, int class, const uint8_t *data,
                 uint64_t size_bytes);
int builder_raw(struct builder *b, const char *file, struct pack_image *image);
/* A file that is rejected, or ignored, without being looked at. */
int builder_reject(struct builder *b, const char *file, const char *reason);
int builder_ignore(struct builder *b, const char *file, const char *reason);

/* Whether the request's `stop` is set: nothing is begun any more. */
bool builder_stopped(const struct builder *b);

/* ERR_NOSPACE unless `wanted` bytes fit into the data directory, ERR_IO. */
int builder_check_space(const struct builder *b, uint64_t wanted);

/* seal.c: checks the whole, puts the holdout aside, writes the packs. The builder can only be freed
 * then. */
int builder_finish(struct builder *b, struct ingest_result *out);

#endif
