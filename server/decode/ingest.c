/*
 * ingest.c - an upload's form: tar of class/image, multipart of label and image parts, two IDX
 * files, one of CIFAR, or one image.
 */
#include "server/decode/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/err.h"
#include "core/storage/container.h"
#include "server/decode/builder.h"
#include "server/decode/cifar.h"
#include "server/decode/idx.h"
#include "server/decode/multipart.h"
#include "server/decode/selection.h"
#include "server/decode/tarball.h"
#include "server/span.h"

struct upload {
    const struct ingest_request *req;
    struct ingest_error *error;
    struct builder *builder;
    struct span body; /* the spool, mapped */
};

/* ---- the spool ---- */

static int map_spool(const struct ingest_request *req, struct span *body,
                     struct ingest_error *error)
{
    if (req->spool_bytes == 0)
        return ingest_refuse(error, 400, "empty_body",
                             "the request has no body; send a tar archive, one image with "
                             "label=CLASS, or multipart/form-data with label and image parts");
    int fd = open(req->spool_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ingest_fail(error, ERR_IO);
    void *map = mmap(NULL, req->spool_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return ingest_fail(error, errno == ENOMEM ? ERR_NOMEM : ERR_IO);
    madvise(map, req->spool_bytes, MADV_SEQUENTIAL);
    *body = (struct span){
        .data = map, .size_bytes = req->spool_bytes, .mapped = true, .stop = req->stop};
    return 0;
}

static void unmap_spool(struct span body)
{
    munmap((void *)(uintptr_t)body.data, body.size_bytes);
}

static void hash_text(crypto_generichash_state *state, const char *text)
{
    uint8_t present = text != NULL;
    crypto_generichash_update(state, &present, 1);
    if (text)
        crypto_generichash_update(state, (const uint8_t *)text, strlen(text) + 1);
}

static void hash_span(crypto_generichash_state *state, struct span body)
{
    for (size_t at = 0, bytes; at < body.size_bytes && !span_stopped(&body); at += bytes) {
        size_t left = body.size_bytes - at;
        bytes = left < SPAN_STEP_BYTES ? left : SPAN_STEP_BYTES;
        crypto_generichash_update(state, body.data + at, bytes);
        span_passed(&body, body.data + at + bytes);
    }
}

int ingest_fingerprint(const struct ingest_request *req, char hash[HASH_HEX_BYTES],
                       struct ingest_error *error)
{
    struct span body;
    int err = map_spool(req, &body, error);
    if (err != 0)
        return err;
    crypto_generichash_state state;
    uint8_t digest[32], flags[2] = {(uint8_t)req->format, req->test_split};
    char holdout[32];
    snprintf(holdout, sizeof holdout, "%.17g", req->holdout);
    crypto_generichash_init(&state, NULL, 0, sizeof digest);
    crypto_generichash_update(&state, flags, sizeof flags);
    hash_text(&state, holdout);
    hash_text(&state, req->classes);
    hash_text(&state, req->names);
    hash_text(&state, req->label);
    hash_span(&state, body);
    crypto_generichash_final(&state, digest, sizeof digest);
    if (span_stopped(&body))
        err = ingest_fail(error, ERR_STOPPED);
    else
        sodium_bin2hex(hash, HASH_HEX_BYTES, digest, sizeof digest);
    unmap_spool(body);
    return err;
}

/* ---- tar ---- */

/* A path of the archive, judged. */
struct tar_path {
    bool bad;    /* absolute, or with an empty, "." or ".." component */
    bool hidden; /* some component begins with a dot */
    int components;
    char class[LABEL_BYTES + 1]; /* the first component, cut one byte over what a label may be */
};

static struct tar_path judge_path(const char *path)
{
    struct tar_path judged = {.bad = path[0] == '/' || path[0] == '\0'};
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    if (strcmp(path, ".") == 0)
        path++;
    while (*path) {
        size_t bytes = strcspn(path, "/");
        bool dots = path[0] == '.' && (bytes == 1 || (bytes == 2 && path[1] == '.'));
        if (bytes == 0 || dots)
            judged.bad = true;
        else if (path[0] == '.')
            judged.hidden = true;
        if (judged.components++ == 0)
            snprintf(judged.class, sizeof judged.class, "%.*s", (int)bytes, path);
        path += bytes + (path[bytes] == '/');
    }
    return judged;
}

static int take_entry(void *ctx, const struct tarball_entry *entry)
{
    struct upload *u = ctx;
    struct tar_path path = judge_path(entry->path);
    int class;
    if (entry->kind == TARBALL_DIRECTORY) {
        bool names_class = !path.bad && !path.hidden && path.components == 1;
        return names_class ? builder_class(u->builder, path.class, &class) : 0;
    }
    if (path.hidden && !path.bad)
        return builder_ignore(u->builder, entry->path, "hidden_file");
    if (path.bad || path.components != 2)
        return builder_reject(u->builder, entry->path, "bad_path");
    if (entry->kind == TARBALL_OTHER)
        return builder_reject(u->builder, entry->path, "not_a_regular_file");
    int err = builder_class(u->builder, path.class, &class);
    return err != 0 ? err
                    : builder_file(u->builder, entry->path, class, entry->data, entry->size_bytes);
}

/* classes and names would be silently without effect on anything but a data set. */
static int refuse_selection(struct upload *u)
{
    if (!selection_given(u->req))
        return 0;
    return ingest_refuse(u->error, 400, "bad_query",
                         "classes and names go with a data set (CIFAR, or IDX as parts images "
                         "and labels); here folders, label parts or label name the classes");
}

static int read_tar(struct upload *u)
{
    struct tarball_error why;
    int err = refuse_selection(u);
    if (err != 0)
        return err;
    u->error->code[0] = '\0';
    err = tarball_read(u->body, u->req->max_image_bytes, take_entry, u, &why);
    if (err == ERR_FORMAT && why.detail[0] != '\0')
        return ingest_refuse(
            u->error, why.unknown ? 415 : 422, "bad_archive",
            "the body is not a usable tar archive (plain, gzip or zstd): %s. Make one with: tar -C "
            "photos -c . (a CIFAR file is a whole number of records of 3073 or 3074 bytes)",
            why.detail);
    if (err != 0 && u->error->code[0] == '\0')
        return ingest_fail(u->error, err);
    return err;
}

/* ---- data sets ---- */

/* Classes are made ahead: their order is the sender's, and an absent one is found empty. */
static int select_classes(struct upload *u, struct selection *s, const bool *present)
{
    int class;
    int err = selection_init(s, u->req, present, u->error);
    for (int i = 0; i < s->count && err == 0; i++)
        err = builder_class(u->builder, s->labels[i], &class);
    return err;
}

/* One image of a data set, number `number` of it. */
static int take_raw(struct upload *u, const struct selection *s, int64_t number, int value,
                    struct pack_image *image)
{
    int position;
    char file[32];
    int err = selection_find(s, value, &position, u->error);
    if (err != 0 || position < 0)
        return err;
    snprintf(file, sizeof file, "images[%" PRId64 "]", number);
    err = builder_class(u->builder, s->labels[position], &image->label);
    return err != 0 ? err : builder_raw(u->builder, file, image);
}

/* What is left to say when reading a data set ended with `err`. */
static int data_set_end(struct upload *u, int err, const char *code, const char *why)
{
    if (err == ERR_FORMAT && u->error->code[0] == '\0')
        ingest_refuse(u->error, 422, code, "%s", why);
    else if (err != 0 && u->error->code[0] == '\0')
        ingest_fail(u->error, err);
    return err;
}

static int take_idx_images(struct upload *u, struct idx *x, struct selection *s, const char **why)
{
    struct pack_image image = {.width = idx_width(x), .height = idx_height(x), .channels = 1};
    int value, got, err = 0;
    for (int64_t i = 0; err == 0 && (got = idx_next(x, &image.data, &value, why)) != 0; i++)
        err = got < 0 ? got : take_raw(u, s, i, value, &image);
    return err;
}

static int read_idx(struct upload *u, struct span images, struct span labels)
{
    struct selection *s = calloc(1, sizeof *s);
    struct idx *x = NULL;
    const char *why = NULL;
    bool present[256];
    u->error->code[0] = '\0';
    int err = s ? 0 : ERR_NOMEM;
    if (err == 0 && !selection_given(u->req))
        err = idx_values(labels, present);
    if (err == 0)
        err = select_classes(u, s, present);
    if (err == 0)
        err = idx_new(&x, images, labels, &why);
    if (err == 0)
        err = take_idx_images(u, x, s, &why);
    err = data_set_end(u, err, "bad_idx", why);
    idx_free(x);
    free(s);
    return err;
}

static int take_cifar_images(struct upload *u, struct cifar *c, struct selection *s,
                             const char **why)
{
    struct pack_image image = {
        .width = CIFAR_SIDE, .height = CIFAR_SIDE, .channels = CIFAR_CHANNELS};
    int value, got, err = 0;
    for (int64_t i = 0; err == 0 && (got = cifar_next(c, &image.data, &value, why)) != 0; i++)
        err = got < 0 ? got : take_raw(u, s, i, value, &image);
    return err;
}

static int read_cifar(struct upload *u, enum cifar_format format)
{
    struct selection *s = calloc(1, sizeof *s);
    struct cifar *c = NULL;
    const char *why = NULL;
    bool present[256];
    u->error->code[0] = '\0';
    int err = s ? 0 : ERR_NOMEM;
    if (err == 0 && !selection_given(u->req))
        err = cifar_values(format, u->body, present);
    if (err == 0)
        err = select_classes(u, s, present);
    if (err == 0)
        err = cifar_new(&c, format, u->body);
    if (err == 0)
        err = take_cifar_images(u, c, s, &why);
    err = data_set_end(u, err, "bad_cifar", why);
    cifar_free(c);
    free(s);
    return err;
}

/* One body that is no form: a tar archive, unless it is a CIFAR file by its size. */
static int read_single(struct upload *u)
{
    enum cifar_format format;
    bool ambiguous;
    int err = cifar_detect(u->body, &format, &ambiguous);
    if (err != 0)
        return ingest_fail(u->error, err);
    if (ambiguous)
        return ingest_refuse(u->error, 400, "ambiguous_format",
                             "by its size this is CIFAR-10 as well as CIFAR-100; say which with "
                             "format=cifar10 or format=cifar100");
    return format == CIFAR_NONE ? read_tar(u) : read_cifar(u, format);
}

/* ---- multipart ---- */

/* One label or image part; `label` is the label that holds, "" before the first. */
static int take_part(struct upload *u, const struct multipart_part *part,
                     char label[LABEL_BYTES + 1])
{
    if (strcmp(part->name, "label") == 0) {
        bool usable = part->size_bytes <= LABEL_BYTES &&
                      !memchr(part->data, '\0', part->size_bytes);
        size_t bytes = usable ? part->size_bytes : 0;
        memcpy(label, part->data, bytes);
        label[bytes] = '\0';
        int class;
        return builder_class(u->builder, label, &class);
    }
    const char *file = part->filename[0] ? part->filename : part->name;
    if (label[0] == '\0')
        return builder_reject(u->builder, file, "no_label");
    int class;
    int err = builder_class(u->builder, label, &class);
    return err != 0 ? err : builder_file(u->builder, file, class, part->data, part->size_bytes);
}

static int bad_multipart(struct upload *u)
{
    return ingest_refuse(u->error, 400, "bad_multipart",
                         "the body is not well-formed multipart/form-data, or it "
                         "does not end with its boundary");
}

static int read_multipart(struct upload *u)
{
    struct multipart reader;
    struct multipart_part part, images = {0}, labels = {0};
    char label[LABEL_BYTES + 1] = "";
    bool forms = false;
    int got = 0;
    if (multipart_init(&reader, u->req->content_type, u->body) != 0)
        return bad_multipart(u);
    while ((got = multipart_next(&reader, &part)) > 0) {
        if (strcmp(part.name, "images") == 0 && !images.data) {
            images = part;
        } else if (strcmp(part.name, "labels") == 0 && !labels.data) {
            labels = part;
        } else if (strcmp(part.name, "label") == 0 || strcmp(part.name, "image") == 0) {
            forms = true;
            int err = take_part(u, &part, label);
            if (err != 0)
                return err;
        } else {
            return ingest_refuse(u->error, 422, "unknown_part",
                                 "a part is named neither label nor image (files "
                                 "one by one), nor images and labels (one IDX data set)");
        }
    }
    if (got < 0)
        return bad_multipart(u);
    if (!images.data && !labels.data)
        return refuse_selection(u);
    if (!images.data || !labels.data || forms)
        return ingest_refuse(u->error, 422, "missing_part",
                             "an IDX data set is sent as two parts, images and "
                             "labels, and nothing else");
    return read_idx(u, span_part(&u->body, images.data, images.size_bytes),
                    span_part(&u->body, labels.data, labels.size_bytes));
}

/* ---- one image ---- */

static int read_image(struct upload *u)
{
    int class;
    int err = refuse_selection(u);
    if (err != 0)
        return err;
    if (!u->req->label)
        return ingest_refuse(u->error, 400, "no_label",
                             "the body is one image: name its class in the query, as in "
                             "label=cat; many images go as a tar of class/image folders");
    err = builder_class(u->builder, u->req->label, &class);
    return err != 0 ? err
                    : builder_file(u->builder, "image", class, u->body.data, u->body.size_bytes);
}

/* ---- the whole ---- */

/* A single body that begins as an image is one: no CIFAR record begins so (its label would be out
 * of range), nor does what is compressed. */
static int read_form(struct upload *u)
{
    enum ingest_format format = u->req->format;
    enum pack_encoding encoding;
    if (format == INGEST_SINGLE &&
        image_sniff(u->body.data, u->body.size_bytes, &encoding) == IMAGE_OK)
        format = INGEST_IMAGE;
    if (format != INGEST_IMAGE && u->req->label)
        return ingest_refuse(u->error, 400, "bad_query",
                             "label goes with one image (JPEG or PNG) as the body; the classes of "
                             "an archive, a form or a data set are named in it");
    switch (format) {
    case INGEST_IMAGE:
        return read_image(u);
    case INGEST_MULTIPART:
        return read_multipart(u);
    case INGEST_SINGLE:
        return read_single(u);
    case INGEST_TAR:
        return read_tar(u);
    case INGEST_CIFAR10:
        return read_cifar(u, CIFAR_10);
    case INGEST_CIFAR100:
        return read_cifar(u, CIFAR_100);
    }
    return ERR_INVALID;
}

int ingest(const struct ingest_request *req, struct ingest_result *out, struct ingest_error *error)
{
    struct upload u = {.req = req, .error = error};
    int err = map_spool(req, &u.body, error);
    if (err != 0)
        return err;
    err = builder_new(&u.builder, req, error);
    if (err == 0)
        err = read_form(&u);
    if (err == 0)
        err = builder_finish(u.builder, out);
    if (err != 0 && span_stopped(&u.body)) /* whatever a reader said, having given up */
        err = ingest_fail(error, ERR_STOPPED);
    builder_free(u.builder);
    unmap_spool(u.body);
    return err;
}

int ingest_publish(struct ingest_result *result, const char *data_dir)
{
    char train[sizeof result->train_path], test[sizeof result->test_path];
    snprintf(train, sizeof train, "%s/batches/%s.train", data_dir, result->batch.hash);
    snprintf(test, sizeof test, "%s/batches/%s.test", data_dir, result->batch.hash);
    int err = 0;
    if (result->train_path[0])
        err = durable_rename(result->train_path, train);
    if (err == 0 && result->test_path[0])
        err = durable_rename(result->test_path, test);
    if (err != 0) { /* the hash is this batch's alone: no other one's files are touched */
        unlink(train);
        unlink(test);
        return err;
    }
    result->train_path[0] = result->test_path[0] = '\0';
    return 0;
}

void ingest_release(struct ingest_result *result)
{
    if (result->train_path[0])
        unlink(result->train_path);
    if (result->test_path[0])
        unlink(result->test_path);
    batch_release(&result->batch);
}
