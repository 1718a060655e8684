/*
 * retire.c - see retire.h.
 */
#include "server/jobs/retire.h"

#include <dirent.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "core/model/retire.h"
#include "core/storage/container.h"
#include "server/jobs/data.h"
#include "server/log.h"
#include "server/store/pack.h"

enum { PATH_BYTES = 4400 };

/* ---- packs ---- */

/* Which labels of a pack go; one flag each, owned by the caller. */
typedef bool (*drops_fn)(const char *label, const void *ctx);

static bool *dropped_labels(const struct pack *pack, drops_fn drops, const void *ctx)
{
    bool *list = calloc((size_t)pack_label_count(pack) + 1, sizeof *list);
    for (int i = 0; list && i < pack_label_count(pack); i++)
        list[i] = drops(pack_label(pack, i), ctx);
    return list;
}

static int copy_rest(struct pack_writer *w, const struct pack *pack, const bool *dropped,
                     const atomic_bool *stop)
{
    int err = 0;
    for (int i = 0; i < pack_image_count(pack) && !err; i++) {
        struct pack_image image;
        err = atomic_load(stop) ? ERR_STOPPED : pack_image(pack, i, &image);
        if (err || dropped[image.label])
            continue;
        err = pack_writer_label(w, pack_label(pack, image.label), &image.label);
        if (!err)
            err = pack_writer_add(w, &image);
    }
    return err;
}

struct pack_rest {
    int64_t left, gone; /* images */
    uint64_t bytes;     /* of the new file */
};

/* Writes the images of `from` that stay to `temporary`; no file where all stay, or none. */
static int write_rest(const char *from, const char *temporary, drops_fn drops, const void *ctx,
                      const atomic_bool *stop, struct pack_rest *out)
{
    struct pack *pack;
    struct pack_writer *w = NULL;
    struct pack_rest rest = {0};
    int err = pack_open(&pack, from);
    if (err)
        return err;
    bool *dropped = dropped_labels(pack, drops, ctx);
    err = dropped ? 0 : ERR_NOMEM;
    for (int i = 0; i < pack_image_count(pack) && !err; i++) {
        struct pack_image image;
        err = pack_image(pack, i, &image);
        if (!err && atomic_load(stop))
            err = ERR_STOPPED;
        if (!err)
            *(dropped[image.label] ? &rest.gone : &rest.left) += 1;
    }
    if (!err && rest.gone && rest.left) {
        unlink(temporary); /* of one that was interrupted */
        err = pack_writer_new(&w, temporary);
        if (!err)
            err = copy_rest(w, pack, dropped, stop);
        if (err)
            pack_writer_abort(w);
        else
            err = pack_writer_finish(w, &rest.bytes);
    }
    free(dropped);
    pack_close(pack);
    if (!err)
        *out = rest;
    return err;
}

/* ---- test images ---- */

struct stored_label {
    const struct batch *batch;
    const char *label; /* as it is called now */
};

static bool drops_stored(const char *label, const void *ctx)
{
    const struct stored_label *s = ctx;
    for (int i = 0; i < s->batch->class_count; i++)
        if (strcmp(s->batch->classes[i].stored, label) == 0)
            return strcmp(s->batch->classes[i].label, s->label) == 0;
    return false;
}

/* The hash of what was there and what was taken from it. */
static void derive_hash(const char *hash, const char *label, char out[HASH_HEX_BYTES])
{
    crypto_generichash_state state;
    uint8_t digest[(HASH_HEX_BYTES - 1) / 2];
    crypto_generichash_init(&state, NULL, 0, sizeof digest);
    crypto_generichash_update(&state, (const uint8_t *)hash, strlen(hash) + 1);
    crypto_generichash_update(&state, (const uint8_t *)label, strlen(label) + 1);
    crypto_generichash_final(&state, digest, sizeof digest);
    sodium_bin2hex(out, HASH_HEX_BYTES, digest, sizeof digest);
}

int retire_pack_write(const char *data_dir, const char *label, const atomic_bool *stop,
                      struct retire_pack *p)
{
    char from[PATH_BYTES], temporary[PATH_BYTES], to[PATH_BYTES];
    struct stored_label stored = {&p->batch, label};
    struct pack_rest rest;
    derive_hash(p->batch.hash, label, p->hash);
    data_path(from, sizeof from, data_dir, "batches", p->batch.hash, ".test");
    data_path(temporary, sizeof temporary, data_dir, "tmp", p->hash, ".retire");
    data_path(to, sizeof to, data_dir, "batches", p->hash, ".test");
    int err = write_rest(from, temporary, drops_stored, &stored, stop, &rest);
    if (!err && rest.gone == 0)
        err = ERR_CORRUPT; /* the rows say otherwise */
    if (!err && rest.left)
        err = durable_rename(temporary, to);
    if (err)
        return err;
    p->test_bytes = (int64_t)rest.bytes;
    p->images = rest.gone;
    return 0;
}

void retire_pack_undo(const char *data_dir, const struct retire_pack *p)
{
    char path[PATH_BYTES];
    data_path(path, sizeof path, data_dir, "batches", p->hash, ".test");
    unlink(path); /* or the next start does it */
}

/* ---- what is erased after the commit ---- */

int retire_erase_load(struct db_txn *t, struct retire_erase *e)
{
    int err = classes_to_erase(t, &e->files, &e->file_count);
    if (!err)
        err = classes_to_erase_names(t, &e->names, &e->name_count);
    return err ? err : renames_list(t, &e->renames, &e->rename_count);
}

void retire_erase_release(struct retire_erase *e)
{
    free(e->files);
    free(e->names);
    free(e->renames);
    *e = (struct retire_erase){0};
}

static int forget_in(const char *data_dir, const char *folder, enum container_kind kind,
                     int64_t version, const int *classes, int count)
{
    char path[PATH_BYTES];
    bool changed;
    data_path_number(path, sizeof path, data_dir, folder, version);
    int err = model_file_forget(path, kind, classes, count, &changed);
    if (err == ERR_MISSING)
        return 0;
    if (err)
        log_warning("prototypes of retired classes could not be erased from %s/%" PRId64 ": %s",
                    folder, version, err_str(err));
    return err;
}

/* The files of each version once, with all of its classes. */
static int erase_prototypes(const char *data_dir, const struct retire_erase *e,
                            const atomic_bool *stop)
{
    int first_err = 0;
    int *classes = calloc((size_t)e->file_count + 1, sizeof *classes);
    if (!classes)
        return ERR_NOMEM;
    for (int i = 0, next; i < e->file_count && !atomic_load(stop); i = next) {
        int64_t version = e->files[i].version;
        for (next = i; next < e->file_count && e->files[next].version == version; next++)
            classes[next - i] = e->files[next].class_index;
        int dense = forget_in(data_dir, "models", CONTAINER_MODEL, version, classes, next - i);
        int pruned = forget_in(data_dir, "snapshots", CONTAINER_SNAPSHOT, version, classes,
                               next - i);
        first_err = first_err ? first_err : dense ? dense : pruned;
    }
    free(classes);
    return first_err ? first_err : atomic_load(stop) ? ERR_STOPPED : 0;
}

struct exemplar_file {
    const struct retire_erase *erase;
    int64_t version;
};

static bool drops_exemplar(const char *label, const void *ctx)
{
    const struct exemplar_file *f = ctx;
    const struct retire_erase *e = f->erase;
    const char *name = renames_apply(e->renames, e->rename_count, label, f->version);
    for (int i = 0; i < e->name_count; i++)
        if (strcmp(e->names[i], name) == 0)
            return true;
    return false;
}

static int erase_exemplars(const char *data_dir, struct retire_erase *e, const atomic_bool *stop,
                           const char *name)
{
    char from[PATH_BYTES], temporary[PATH_BYTES];
    struct exemplar_file file = {e, strtoll(name, NULL, 10)};
    struct pack_rest rest;
    data_path(from, sizeof from, data_dir, "exemplars", name, "");
    data_path(temporary, sizeof temporary, data_dir, "tmp", "exemplars-", name);
    int err = write_rest(from, temporary, drops_exemplar, &file, stop, &rest);
    if (!err && rest.gone && !rest.left)
        err = unlink(from) == 0 ? 0 : ERR_IO;
    else if (!err && rest.gone)
        err = durable_rename(temporary, from);
    if (!err)
        e->exemplars += rest.gone;
    else if (err != ERR_STOPPED)
        log_warning("images of retired classes could not be erased from exemplars/%s: %s", name,
                    err_str(err));
    return err;
}

int retire_erase_run(const char *data_dir, const atomic_bool *stop, struct retire_erase *e)
{
    char path[PATH_BYTES];
    struct dirent *entry;
    int first_err = erase_prototypes(data_dir, e, stop);
    data_path(path, sizeof path, data_dir, "exemplars", "", "");
    DIR *dir = opendir(path);
    if (!dir)
        return first_err ? first_err : ERR_IO;
    while ((entry = readdir(dir))) {
        int err = entry->d_name[0] == '.' ? 0 : erase_exemplars(data_dir, e, stop, entry->d_name);
        first_err = first_err ? first_err : err;
    }
    closedir(dir);
    return first_err;
}

static int write_erased(struct db_txn *t, void *ctx)
{
    (void)ctx;
    return classes_set_erased(t);
}

void retire_recover(struct db *db, const char *data_dir)
{
    struct retire_erase e = {0};
    const atomic_bool stop = false; /* signals come to the loop, which does not turn yet */
    int err = retire_erase_load(db_reader(db), &e);
    if (!err && e.name_count) {
        err = retire_erase_run(data_dir, &stop, &e);
        if (!err)
            err = db_write_wait(db, write_erased, NULL);
        if (!err)
            log_info("erased what an interrupted daemon left of %d retired classes", e.name_count);
    }
    if (err)
        log_warning("retired classes are not erased from all files: %s; the next start tries again",
                    err_str(err));
    retire_erase_release(&e);
}
