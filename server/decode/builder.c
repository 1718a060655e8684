/*
 * builder.c - collecting: every file of an upload is judged, and stored in the staging pack when
 * accepted.
 */
#include "server/decode/builder.h"

#include <jansson.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "server/data_dir.h"
#include "server/decode/label.h"
#include "server/store/pack.h"

enum { SPACE_CHECK_BYTES = 64 << 20 };

/* ---- errors ---- */

int ingest_refuse(struct ingest_error *error, int status, const char *code, const char *detail, ...)
{
    error->status = status;
    snprintf(error->code, sizeof error->code, "%s", code);
    va_list args;
    va_start(args, detail);
    vsnprintf(error->detail, sizeof error->detail, detail, args);
    va_end(args);
    return ERR_INVALID;
}

int ingest_fail(struct ingest_error *error, int err)
{
    if (err == ERR_NOMEM)
        ingest_refuse(error, 503, "no_memory",
                      "memory ran out while the upload was read; try again later");
    else if (err == ERR_STOPPED)
        ingest_refuse(error, 503, "shutting_down", "the daemon is stopping; try again soon");
    else if (err == ERR_NOSPACE)
        ingest_refuse(
            error, 507, "disk_full",
            "the disk of the data directory is too full for this upload; free some space and "
            "send it again");
    else
        ingest_refuse(
            error, 500, "io_error",
            "the upload could not be stored: %s; the daemon's log and the disk's health tell more",
            err_str(err));
    return err;
}

/* ---- life ---- */

int builder_check_space(const struct builder *b, uint64_t wanted)
{
    return data_dir_check_room(b->req->data_dir, b->req->min_free_bytes, wanted);
}

bool builder_stopped(const struct builder *b)
{
    return b->req->stop && atomic_load(b->req->stop);
}

int builder_new(struct builder **out, const struct ingest_request *req, struct ingest_error *error)
{
    struct builder *b = calloc(1, sizeof *b);
    if (!b)
        return ingest_fail(error, ERR_NOMEM);
    b->req = req;
    b->error = error;
    uint64_t id;
    randombytes_buf(&id, sizeof id);
    const char *base = "/tmp/ingest-";
    snprintf(b->stage_path, BUILDER_PATH_BYTES, "%s%s%016lx.stage", req->data_dir, base,
             (unsigned long)id);
    snprintf(b->train_path, BUILDER_PATH_BYTES, "%s%s%016lx.train", req->data_dir, base,
             (unsigned long)id);
    snprintf(b->test_path, BUILDER_PATH_BYTES, "%s%s%016lx.test", req->data_dir, base,
             (unsigned long)id);
    b->refused = json_array();
    b->ignored = json_array();
    b->classes = calloc(INGEST_MAX_CLASSES, sizeof *b->classes);
    int err = b->refused && b->ignored && b->classes ? builder_check_space(b, req->spool_bytes)
                                                     : ERR_NOMEM;
    if (err == 0)
        err = pack_writer_new(&b->stage, b->stage_path);
    if (err != 0) {
        builder_free(b);
        return ingest_fail(error, err);
    }
    *out = b;
    return 0;
}

void builder_free(struct builder *b)
{
    if (!b)
        return;
    pack_writer_abort(b->stage);
    unlink(b->stage_path);
    json_decref(b->refused);
    json_decref(b->ignored);
    free(b->classes);
    free(b->records);
    free(b->table);
    free(b);
}

/* ---- verdicts ---- */

static int note(json_t *list, const char *file, const char *verdict, const char *reason)
{
    if (json_array_size(list) >= INGEST_MAX_VERDICTS)
        return 0;
    char clean[256];
    text_clean(file, clean, sizeof clean);
    json_t *entry = json_pack("{s:s, s:s, s:s}", "file", clean, "verdict", verdict, "reason",
                              reason);
    return json_array_append_new(list, entry) == 0 ? 0 : ERR_NOMEM;
}

int builder_reject(struct builder *b, const char *file, const char *reason)
{
    b->rejected++;
    int err = note(b->refused, file, "rejected", reason);
    return err == 0 ? 0 : ingest_fail(b->error, err);
}

int builder_ignore(struct builder *b, const char *file, const char *reason)
{
    int err = note(b->ignored, file, "ignored", reason);
    return err == 0 ? 0 : ingest_fail(b->error, err);
}

/* ---- classes ---- */

int builder_class(struct builder *b, const char *label, int *index)
{
    for (int i = 0; i < b->class_count; i++) {
        if (strcmp(b->classes[i].label, label) == 0) {
            *index = i;
            return 0;
        }
    }
    char clean[128];
    text_clean(label, clean, sizeof clean);
    if (!label_valid(label))
        return ingest_refuse(
            b->error, 422, "bad_label",
            "\"%s\" is no valid class name: 1 to 64 bytes of UTF-8 without control "
            "characters, / or \\, not beginning or ending with a space and not beginning "
            "with a dot; rename it and send the batch again",
            clean);
    if (b->class_count == INGEST_MAX_CLASSES)
        return ingest_refuse(b->error, 422, "too_many_classes",
                             "a batch may have %d classes; split it", INGEST_MAX_CLASSES);
    int in_pack;
    int err = pack_writer_label(b->stage, label, &in_pack);
    if (err != 0)
        return ingest_fail(b->error, err);
    struct batch_class *class = &b->classes[b->class_count];
    memcpy(class->label, label, strlen(label) + 1);
    *index = b->class_count++;
    return 0;
}

/* ---- images ---- */

static size_t slot_of(const struct builder *b, const uint8_t *digest)
{
    size_t at;
    memcpy(&at, digest, sizeof at);
    at &= b->table_size - 1;
    while (b->table[at] != 0 &&
           memcmp(b->records[b->table[at] - 1].digest, digest, DIGEST_BYTES) != 0)
        at = (at + 1) & (b->table_size - 1);
    return at;
}

/* Room for one more record, in a table at most half full. */
static int reserve(struct builder *b)
{
    if (b->count < b->capacity)
        return 0;
    int capacity = b->capacity ? 2 * b->capacity : 1024;
    struct builder_record *records = reallocarray(b->records, (size_t)capacity, sizeof *records);
    if (!records)
        return ERR_NOMEM;
    b->records = records;
    int *table = calloc(2 * (size_t)capacity, sizeof *table);
    if (!table)
        return ERR_NOMEM;
    free(b->table);
    b->table = table;
    b->table_size = 2 * (size_t)capacity;
    b->capacity = capacity;
    for (int i = 0; i < b->count; i++)
        b->table[slot_of(b, b->records[i].digest)] = i + 1;
    return 0;
}

static void digest_pixels(const struct pack_image *image, const uint8_t *pixels,
                          uint8_t digest[DIGEST_BYTES])
{
    crypto_generichash_state state;
    uint32_t shape[3] = {(uint32_t)image->width, (uint32_t)image->height,
                         (uint32_t)image->channels};
    crypto_generichash_init(&state, NULL, 0, DIGEST_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)shape, sizeof shape);
    crypto_generichash_update(&state, pixels, (size_t)shape[0] * shape[1] * shape[2]);
    crypto_generichash_final(&state, digest, DIGEST_BYTES);
}

/* An image that decoded to `pixels`: a duplicate, in conflict, or stored. */
static int take(struct builder *b, const char *file, const struct pack_image *stored,
                const uint8_t *pixels)
{
    struct builder_record record = {.class = (int16_t)stored->label, .test = b->req->test_split};
    digest_pixels(stored, pixels, record.digest);
    int err = reserve(b);
    if (err != 0)
        return ingest_fail(b->error, err);
    size_t slot = slot_of(b, record.digest);
    if (b->table[slot] != 0) {
        if (b->records[b->table[slot] - 1].class != record.class)
            return builder_reject(b, file, "conflicting_label");
        b->duplicates++;
        err = note(b->refused, file, "duplicate", "duplicate_image");
        return err == 0 ? 0 : ingest_fail(b->error, err);
    }
    if (b->count == INGEST_MAX_IMAGES)
        return ingest_refuse(b->error, 422, "too_many_images",
                             "a batch may have %d images; split it", INGEST_MAX_IMAGES);
    b->unchecked_bytes += stored->size_bytes;
    if (b->unchecked_bytes > SPACE_CHECK_BYTES) {
        err = builder_check_space(b, 0);
        b->unchecked_bytes = 0;
    }
    if (err == 0)
        err = pack_writer_add(b->stage, stored);
    if (err != 0)
        return ingest_fail(b->error, err);
    if (record.test)
        b->classes[record.class].test_count++;
    else
        b->classes[record.class].train_count++;
    b->records[b->count++] = record;
    b->table[slot] = b->count;
    return 0;
}

int builder_file(struct builder *b, const char *file, int class, const uint8_t *data,
                 uint64_t size_bytes)
{
    if (!data || size_bytes > b->req->max_image_bytes)
        return builder_reject(b, file, "file_too_large");
    if (builder_stopped(b))
        return ingest_fail(b->error, ERR_STOPPED);
    struct image img;
    enum image_verdict verdict = image_decode(&img, data, size_bytes);
    if (verdict == IMAGE_NO_MEMORY)
        return ingest_fail(b->error, ERR_NOMEM);
    if (verdict != IMAGE_OK)
        return builder_reject(b, file, image_verdict_code(verdict));
    struct pack_image stored = {.label = class, .width = img.width, .height = img.height,
                                .channels = img.channels, .data = data, .size_bytes = size_bytes};
    image_sniff(data, size_bytes, &stored.encoding);
    int err = take(b, file, &stored, img.pixels);
    image_release(&img);
    return err;
}

int builder_raw(struct builder *b, const char *file, struct pack_image *image)
{
    if (builder_stopped(b))
        return ingest_fail(b->error, ERR_STOPPED);
    image->encoding = PACK_RAW;
    image->size_bytes = (uint64_t)image->width * (uint64_t)image->height *
                        (uint64_t)image->channels;
    return take(b, file, image, image->data);
}
