/*
 * ingest.c - an upload's form: tar of class/image, multipart of label and image parts, or two IDX
 * files.
 */
#include "server/decode/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/err.h"
#include "core/storage/container.h"
#include "server/decode/builder.h"
#include "server/decode/idx.h"
#include "server/decode/multipart.h"
#include "server/decode/tarball.h"

struct upload {
    const struct ingest_request *req;
    struct ingest_error *error;
    struct builder *builder;
    const uint8_t *body; /* the spool, mapped */
};

/* ---- the spool ---- */

static int map_spool(const struct ingest_request *req, const uint8_t **body,
                     struct ingest_error *error)
{
    if (req->spool_bytes == 0)
        return ingest_refuse(error, 400, "empty_body",
                             "the request has no body; send a tar archive, or "
                             "multipart/form-data with label and image parts");
    int fd = open(req->spool_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ingest_fail(error, ERR_IO);
    void *map = mmap(NULL, req->spool_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return ingest_fail(error, errno == ENOMEM ? ERR_NOMEM : ERR_IO);
    madvise(map, req->spool_bytes, MADV_SEQUENTIAL);
    *body = map;
    return 0;
}

static void unmap_spool(const struct ingest_request *req, const uint8_t *body)
{
    munmap((void *)(uintptr_t)body, req->spool_bytes);
}

static void hash_text(crypto_generichash_state *state, const char *text)
{
    uint8_t present = text != NULL;
    crypto_generichash_update(state, &present, 1);
    if (text)
        crypto_generichash_update(state, (const uint8_t *)text, strlen(text) + 1);
}

int ingest_fingerprint(const struct ingest_request *req, char hash[HASH_HEX_BYTES],
                       struct ingest_error *error)
{
    const uint8_t *body;
    int err = map_spool(req, &body, error);
    if (err != 0)
        return err;
    crypto_generichash_state state;
    uint8_t digest[32], flags[2] = {req->format == INGEST_MULTIPART, req->test_split};
    char holdout[32];
    snprintf(holdout, sizeof holdout, "%.17g", req->holdout);
    crypto_generichash_init(&state, NULL, 0, sizeof digest);
    crypto_generichash_update(&state, flags, sizeof flags);
    hash_text(&state, holdout);
    hash_text(&state, req->classes);
    hash_text(&state, req->names);
    crypto_generichash_update(&state, body, req->spool_bytes);
    crypto_generichash_final(&state, digest, sizeof digest);
    sodium_bin2hex(hash, HASH_HEX_BYTES, digest, sizeof digest);
    unmap_spool(req, body);
    return 0;
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

/* classes and names would be silently without effect on anything but IDX. */
static int refuse_selection(struct upload *u)
{
    if (!u->req->classes && !u->req->names)
        return 0;
    return ingest_refuse(u->error, 400, "bad_query",
                         "classes and names go with an IDX data set (parts images "
                         "and labels); here the folders or label parts name the classes");
}

static int read_tar(struct upload *u)
{
    struct tarball_error why;
    int err = refuse_selection(u);
    if (err != 0)
        return err;
    u->error->code[0] = '\0';
    err = tarball_read(u->body, u->req->spool_bytes, u->req->max_image_bytes, take_entry, u, &why);
    if (err == ERR_FORMAT && why.detail[0] != '\0')
        return ingest_refuse(
            u->error, why.unknown ? 415 : 422, "bad_archive",
            "the body is not a usable tar archive (plain or gzip): %s. Make one with: tar -C "
            "photos -c .",
            why.detail);
    if (err != 0 && u->error->code[0] == '\0')
        return ingest_fail(u->error, err);
    return err;
}

/* ---- IDX ---- */

struct selection {
    int class_of[256];         /* value -> position among those taken, -1 = not taken */
    char labels[256][LABEL_BYTES];
    int count;
};

/* Cuts the next comma-separated field off *list; false at the end. Too long fields come out cut: no
 * valid label. */
static bool next_field(const char **list, char *field, size_t field_bytes)
{
    if (!*list)
        return false;
    size_t bytes = strcspn(*list, ",");
    snprintf(field, field_bytes, "%.*s", (int)bytes, *list);
    *list = (*list)[bytes] == ',' ? *list + bytes + 1 : NULL;
    return true;
}

static void select_value(struct selection *s, int value)
{
    s->class_of[value] = s->count;
    snprintf(s->labels[s->count++], LABEL_BYTES, "%d", value);
}

/* Without ?classes= and ?names=: every value that occurs, in ascending order. */
static int select_all(const struct multipart_part *labels, struct selection *s)
{
    bool present[256];
    int err = idx_values(labels->data, labels->size_bytes, present);
    for (int value = 0; value < 256 && err == 0; value++) {
        if (present[value])
            select_value(s, value);
    }
    return err;
}

/* ?classes=0,1: which values are taken, in this order. */
static int select_classes(struct upload *u, struct selection *s)
{
    const char *list = u->req->classes;
    char field[8];
    for (int i = 0; i < 256; i++)
        s->class_of[i] = -1;
    while (next_field(&list, field, sizeof field)) {
        char *end;
        long value = strtol(field, &end, 10);
        if (field[0] < '0' || field[0] > '9' || *end != '\0' || value > 255 ||
            s->class_of[value] >= 0)
            return ingest_refuse(u->error, 400, "bad_query",
                                 "classes is a list of different label values "
                                 "from 0 to 255, like classes=0,1");
        select_value(s, (int)value);
    }
    return 0;
}

/* ?names=: those of the values in ?classes=, or of 0, 1, 2 ... */
static int select_names(struct upload *u, struct selection *s)
{
    const char *list = u->req->names;
    char field[LABEL_BYTES + 1];
    int count = 0;
    while (next_field(&list, field, sizeof field)) {
        if (!label_valid(field))
            return ingest_refuse(u->error, 422, "bad_label",
                                 "names has an entry that is no valid class name: "
                                 "1 to 64 bytes of UTF-8 without control characters, / or \\");
        for (int i = 0; i < count; i++) {
            if (strcmp(s->labels[i], field) == 0)
                return ingest_refuse(u->error, 400, "bad_query", "names has an entry twice");
        }
        if (count == 256)
            return ingest_refuse(u->error, 400, "bad_query", "names has more than 256 entries");
        if (!u->req->classes)
            s->class_of[s->count++] = count;
        memcpy(s->labels[count++], field, strlen(field) + 1);
    }
    if (u->req->names && count != s->count)
        return ingest_refuse(u->error, 400, "bad_query",
                             "classes has %d entries and names %d; they go in pairs",
                             s->count, count);
    return 0;
}

static int take_idx_images(struct upload *u, struct idx *x, struct selection *s, const char **why)
{
    const uint8_t *pixels;
    int value, got;
    for (int i = 0; (got = idx_next(x, &pixels, &value, why)) > 0; i++) {
        if (s->class_of[value] < 0 && u->req->classes)
            continue;
        if (s->class_of[value] < 0)
            return ingest_refuse(u->error, 400, "bad_query",
                                 "labels hold the value %d, for which names has no entry",
                                 value);
        int class;
        char file[32];
        snprintf(file, sizeof file, "images[%d]", i);
        int err = builder_class(u->builder, s->labels[s->class_of[value]], &class);
        if (err == 0)
            err = builder_raw(u->builder, file, class, idx_width(x), idx_height(x), pixels);
        if (err != 0)
            return err;
    }
    return got;
}

static int read_idx(struct upload *u, const struct multipart_part *images,
                    const struct multipart_part *labels)
{
    struct selection *s = calloc(1, sizeof *s);
    struct idx *x = NULL;
    const char *why = NULL;
    int class;
    if (!s)
        return ingest_fail(u->error, ERR_NOMEM);
    u->error->code[0] = '\0';
    int err = select_classes(u, s);
    if (err == 0)
        err = select_names(u, s);
    if (err == 0 && !u->req->classes && !u->req->names)
        err = select_all(labels, s);
    /* Classes are made ahead: their order is the sender's, and an absent one is found empty. */
    for (int i = 0; i < s->count && err == 0; i++)
        err = builder_class(u->builder, s->labels[i], &class);
    if (err == 0)
        err = idx_new(&x, images->data, images->size_bytes, labels->data, labels->size_bytes, &why);
    if (err == 0)
        err = take_idx_images(u, x, s, &why);
    if (err == ERR_FORMAT && u->error->code[0] == '\0')
        ingest_refuse(u->error, 422, "bad_idx", "%s", why);
    else if (err != 0 && u->error->code[0] == '\0')
        ingest_fail(u->error, err);
    idx_free(x);
    free(s);
    return err;
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
    if (multipart_init(&reader, u->req->content_type, u->body, u->req->spool_bytes) != 0)
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
    return read_idx(u, &images, &labels);
}

/* ---- the whole ---- */

int ingest(const struct ingest_request *req, struct ingest_result *out, struct ingest_error *error)
{
    struct upload u = {.req = req, .error = error};
    int err = map_spool(req, &u.body, error);
    if (err != 0)
        return err;
    err = builder_new(&u.builder, req, error);
    if (err == 0)
        err = req->format == INGEST_TAR ? read_tar(&u) : read_multipart(&u);
    if (err == 0)
        err = builder_finish(u.builder, out);
    builder_free(u.builder);
    unmap_spool(req, u.body);
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
