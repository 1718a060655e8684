/*
 * seal.c - finishing: is the upload as a whole acceptable, its hash, its holdout, its packs.
 *
 * The records, sorted by label and digest, give the hash and the holdout, so neither depends on the
 * order in which the images came.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "server/decode/builder.h"
#include "server/store/pack.h"

/* The memory that reading a pack may take; the kernel maps AROUND_BYTES about each place read. */
enum { FORGET_BYTES = 8 << 20, AROUND_BYTES = 64 << 10 };

/* Records by (label, digest): an order that the content alone decides. */
static int by_content(const void *a, const void *b, void *ctx)
{
    const struct builder *builder = ctx;
    const struct builder_record *x = &builder->records[*(const int *)a],
                                *y = &builder->records[*(const int *)b];
    if (x->class != y->class)
        return strcmp(builder->classes[x->class].label, builder->classes[y->class].label);
    return memcmp(x->digest, y->digest, DIGEST_BYTES);
}

static int *sorted_records(struct builder *b)
{
    int *order = reallocarray(NULL, (size_t)b->count, sizeof *order);
    if (!order)
        return NULL;
    for (int i = 0; i < b->count; i++)
        order[i] = i;
    qsort_r(order, (size_t)b->count, sizeof *order, by_content, b);
    return order;
}

/* Marks the first of each class, in the order of their digests, as test images; one is always left
 * to train on. */
static void choose_holdout(struct builder *b, const int *order)
{
    for (int from = 0, to; from < b->count; from = to) {
        int class = b->records[order[from]].class;
        for (to = from; to < b->count && b->records[order[to]].class == class; to++)
            ;
        int images = to - from, aside = (int)((double)images * b->req->holdout + 0.5);
        if (aside > images - 1)
            aside = images - 1;
        for (int i = 0; i < aside; i++)
            b->records[order[from + i]].test = true;
        b->classes[class].test_count += aside;
        b->classes[class].train_count -= aside;
    }
}

static void hex(const uint8_t digest[DIGEST_BYTES], char out[HASH_HEX_BYTES])
{
    sodium_bin2hex(out, HASH_HEX_BYTES, digest, DIGEST_BYTES);
}

/* Hash of labels, splits and pixels; with the name that gives the batch's own hash, so that two
 * batches never share pack files. */
static void name_and_hash(const struct builder *b, const int *order, struct batch *batch)
{
    crypto_generichash_state state;
    uint8_t content[DIGEST_BYTES], whole[DIGEST_BYTES];
    crypto_generichash_init(&state, NULL, 0, DIGEST_BYTES);
    for (int i = 0; i < b->count; i++) {
        const struct builder_record *r = &b->records[order[i]];
        const char *label = b->classes[r->class].label;
        uint8_t split = r->test;
        crypto_generichash_update(&state, (const uint8_t *)label, strlen(label) + 1);
        crypto_generichash_update(&state, &split, 1);
        crypto_generichash_update(&state, r->digest, DIGEST_BYTES);
    }
    crypto_generichash_final(&state, content, sizeof content);
    char content_hex[HASH_HEX_BYTES];
    hex(content, content_hex);
    if (b->req->name)
        snprintf(batch->name, sizeof batch->name, "%s", b->req->name);
    else
        snprintf(batch->name, sizeof batch->name, "batch-%.12s", content_hex);
    crypto_generichash_init(&state, NULL, 0, DIGEST_BYTES);
    crypto_generichash_update(&state, content, sizeof content);
    crypto_generichash_update(&state, (const uint8_t *)batch->name, strlen(batch->name));
    crypto_generichash_final(&state, whole, sizeof whole);
    hex(whole, batch->hash);
}

/* Refused entries first: they are what the sender must act on. */
static char *verdicts_text(const struct builder *b)
{
    size_t index;
    json_t *entry;
    json_array_foreach(b->ignored, index, entry) {
        if (json_array_size(b->refused) >= INGEST_MAX_VERDICTS)
            break;
        if (json_array_append(b->refused, entry) != 0)
            return NULL;
    }
    return json_dumps(b->refused, JSON_COMPACT);
}

static int check_whole(const struct builder *b)
{
    if (b->count == 0 && (b->rejected > 0 || b->class_count == 0)) {
        json_t *first = json_array_get(b->refused, 0);
        const char *file = json_string_value(json_object_get(first, "file"));
        const char *reason = json_string_value(json_object_get(first, "reason"));
        if (!first)
            return ingest_refuse(b->error, 422, "no_valid_image", "the upload holds no images");
        return ingest_refuse(
            b->error, 422, "no_valid_image",
            "none of the %lld files is an image that can be used; the first, \"%s\", was "
            "refused as %s",
            (long long)b->rejected, file, reason);
    }
    for (int i = 0; i < b->class_count; i++) {
        if (b->classes[i].train_count + b->classes[i].test_count == 0)
            return ingest_refuse(
                b->error, 422, "empty_class",
                "class \"%s\" has no usable image; add some, or leave the class out",
                b->classes[i].label);
    }
    return 0;
}

/* Copies the images of one split from the staging pack. */
static int write_split(const struct builder *b, const struct pack *from, bool test,
                       const char *path, uint64_t *size_bytes)
{
    struct pack_writer *w = NULL;
    uint64_t unforgotten = 0;
    int err = pack_writer_new(&w, path);
    for (int i = 0; i < b->class_count && err == 0; i++) {
        int index;
        err = pack_writer_label(w, b->classes[i].label, &index);
    }
    for (int i = 0; i < b->count && err == 0; i++) {
        struct pack_image image;
        if (b->records[i].test != test)
            continue;
        err = pack_image(from, i, &image);
        if (err == 0 && builder_stopped(b))
            err = ERR_STOPPED;
        if (err != 0)
            break;
        err = pack_writer_add(w, &image);
        unforgotten += image.size_bytes + AROUND_BYTES;
        if (unforgotten > FORGET_BYTES) {
            pack_forget(from);
            unforgotten = 0;
        }
    }
    if (err == 0)
        return pack_writer_finish(w, size_bytes);
    pack_writer_abort(w);
    return err;
}

static int split_stage(const struct builder *b, uint64_t stage_bytes, struct batch *batch)
{
    struct pack *stage;
    int err = builder_check_space(b, stage_bytes);
    if (err == 0)
        err = pack_open(&stage, b->stage_path);
    if (err != 0)
        return err;
    uint64_t train_bytes, test_bytes;
    err = write_split(b, stage, false, b->train_path, &train_bytes);
    if (err == 0) {
        err = write_split(b, stage, true, b->test_path, &test_bytes);
        if (err != 0)
            unlink(b->train_path);
    }
    pack_close(stage);
    if (err == 0) {
        batch->train_bytes = (int64_t)train_bytes;
        batch->test_bytes = (int64_t)test_bytes;
    }
    return err;
}

/* The staging pack becomes the pack of its only split, or is divided. */
static int write_packs(struct builder *b, struct ingest_result *result)
{
    struct batch *batch = &result->batch;
    struct pack_writer *stage = b->stage;
    uint64_t bytes;
    b->stage = NULL;
    int err = pack_writer_finish(stage, &bytes);
    if (err != 0)
        return err;
    if (batch->train_count > 0 && batch->test_count > 0) {
        err = split_stage(b, bytes, batch);
    } else {
        bool test = batch->test_count > 0;
        *(test ? &batch->test_bytes : &batch->train_bytes) = (int64_t)bytes;
        err = rename(b->stage_path, test ? b->test_path : b->train_path) == 0 ? 0 : ERR_IO;
    }
    if (err == 0 && batch->train_count > 0)
        memcpy(result->train_path, b->train_path, sizeof b->train_path);
    if (err == 0 && batch->test_count > 0)
        memcpy(result->test_path, b->test_path, sizeof b->test_path);
    return err;
}

/* Everything of the batch but its packs and their sizes. */
static int describe(struct builder *b, struct batch *batch)
{
    int *order = sorted_records(b);
    if (!order)
        return ERR_NOMEM;
    if (!b->req->test_split)
        choose_holdout(b, order);
    name_and_hash(b, order, batch);
    free(order);
    for (int i = 0; i < b->class_count; i++) {
        batch->test_count += b->classes[i].test_count;
        batch->train_count += b->classes[i].train_count;
    }
    batch->rejected = b->rejected;
    batch->duplicates = b->duplicates;
    batch->created_ms = db_now_ms();
    batch->verdicts = verdicts_text(b);
    return batch->verdicts ? 0 : ERR_NOMEM;
}

int builder_finish(struct builder *b, struct ingest_result *out)
{
    int err = check_whole(b);
    if (err != 0)
        return err;
    struct ingest_result result = {0};
    err = describe(b, &result.batch);
    if (err == 0)
        err = write_packs(b, &result);
    if (err != 0) {
        batch_release(&result.batch);
        return ingest_fail(b->error, err);
    }
    result.batch.classes = b->classes;
    result.batch.class_count = b->class_count;
    b->classes = NULL;
    *out = result;
    return 0;
}
