/*
 * data.c - see data.h.
 */
#include "server/jobs/data.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "core/learner/learner.h"
#include "core/storage/container.h"
#include "server/decode/image.h"
#include "server/log.h"
#include "server/store/pack.h"

enum { AUTO_MAX_SIDE = 64, AUTO_SIDE = 32, AUTO_CHANNELS = 3 };

void data_path(char *out, size_t out_bytes, const char *data_dir, const char *folder,
               const char *name, const char *suffix)
{
    snprintf(out, out_bytes, "%s/%s/%s%s", data_dir, folder, name, suffix);
}

void data_path_number(char *out, size_t out_bytes, const char *data_dir, const char *folder,
                      int64_t number)
{
    snprintf(out, out_bytes, "%s/%s/%" PRId64, data_dir, folder, number);
}

void data_delete_training(const char *data_dir, const struct batch *b)
{
    char path[4400];
    data_path(path, sizeof path, data_dir, "batches", b->hash, ".train");
    if (unlink(path) != 0 && errno != ENOENT)
        log_warning("the training images of batch '%s' could not be deleted now (%m); the next "
                    "start tries again",
                    b->name);
}

static int check_command(const struct data_source *s)
{
    switch ((enum learner_command)atomic_load(s->command)) {
    case COMMAND_RUN:
        return 0;
    case COMMAND_CANCEL:
        return ERR_CANCELLED;
    case COMMAND_STOP:
        return ERR_STOPPED;
    }
    return 0;
}

/* ---- walking packs ---- */

struct walk {
    const struct data_source *source;
    const struct job_options *options;
    const struct batch *batch; /* whose pack it is; NULL: the exemplars of `version` */
    int64_t version;
    struct dataset *out;
    struct data_origin *origins, at; /* of the images so far, or NULL; and where the walk is */
    int (*image)(struct walk *w, const struct pack_image *stored, int class_index);
    int width, height, channels; /* for see_size: of the images so far; 0: none, -1: mixed */
};

/* What the class is called now that the pack calls `stored`. */
static const char *present_label(const struct walk *w, const char *stored)
{
    const struct plan *p = w->source->plan;
    if (!w->batch)
        return renames_apply(p->renames, p->rename_count, stored, w->version);
    for (int i = 0; i < w->batch->class_count; i++)
        if (strcmp(w->batch->classes[i].stored, stored) == 0)
            return w->batch->classes[i].label;
    return stored;
}

/* Output index by label of the pack, -1 for labels this job does not know; owned by the caller. */
static int *class_map(const struct walk *w, const struct pack *pack)
{
    int labels = pack_label_count(pack);
    int *map = malloc(((size_t)labels + 1) * sizeof *map);
    for (int i = 0; map && i < labels; i++)
        map[i] = plan_class(w->source->plan, present_label(w, pack_label(pack, i)));
    return map;
}

static int walk_images(struct walk *w, const struct pack *pack)
{
    int *map = class_map(w, pack);
    int err = map ? 0 : ERR_NOMEM;
    for (int i = 0; i < pack_image_count(pack) && !err; i++) {
        struct pack_image stored;
        w->at.index = i;
        err = check_command(w->source);
        if (!err)
            err = pack_image(pack, i, &stored);
        if (!err && map[stored.label] >= 0)
            err = w->image(w, &stored, map[stored.label]);
    }
    free(map);
    return err;
}

static bool unreadable(int err)
{
    return err == ERR_CORRUPT || err == ERR_FORMAT || err == ERR_MISSING;
}

static void batch_path(char *out, size_t out_bytes, const struct data_source *s,
                       const struct batch *b, const char *suffix)
{
    data_path(out, out_bytes, s->data_dir, "batches", b->hash, suffix);
}

static int walk_pack(struct walk *w, const struct batch *b, const char *suffix, int64_t images)
{
    char path[4400];
    struct pack *pack;
    batch_path(path, sizeof path, w->source, b, suffix);
    w->batch = b;
    int err = pack_open(&pack, path);
    if (err)
        return err;
    err = pack_image_count(pack) == images ? walk_images(w, pack) : ERR_CORRUPT;
    pack_close(pack);
    return err;
}

static int walk_train(struct walk *w, struct refusal *why)
{
    const struct plan *plan = w->source->plan;
    for (int i = 0; i < plan->train_count; i++) {
        const struct batch *b = &plan->train[i];
        w->at.pack = i;
        int err = walk_pack(w, b, ".train", b->train_count);
        if (unreadable(err))
            return refuse(why, 422, "corrupt_batch",
                          "The stored images of batch '%s' are damaged (%s). Upload them again "
                          "under another name and start a new job.",
                          b->name, err_str(err));
        if (err)
            return err;
    }
    return 0;
}

/* ---- the input's shape ---- */

static void merge(int *common, int value)
{
    if (*common == 0)
        *common = value;
    else if (*common != value)
        *common = -1;
}

static int see_size(struct walk *w, const struct pack_image *stored, int class_index)
{
    (void)class_index;
    merge(&w->width, stored->width);
    merge(&w->height, stored->height);
    w->channels = stored->channels > w->channels ? stored->channels : w->channels;
    return 0;
}

static bool side_fits(const struct job_options *o, int side)
{
    return side >= resnet_min_side(o->learner.arch) && side <= AUTO_MAX_SIDE;
}

int data_choose_input(const struct data_source *s, struct job_options *o, struct refusal *why)
{
    struct walk w = {.source = s, .image = see_size};
    if (o->channels)
        return 0;
    int err = walk_train(&w, why);
    if (err)
        return err;
    bool as_they_are = side_fits(o, w.width) && side_fits(o, w.height);
    o->channels = as_they_are ? w.channels : AUTO_CHANNELS;
    o->height = as_they_are ? w.height : AUTO_SIDE;
    o->width = as_they_are ? w.width : AUTO_SIDE;
    return 0;
}

/* ---- the images ---- */

static int add_image(struct walk *w, const struct pack_image *stored, int class_index)
{
    struct dataset *d = w->out;
    const struct job_options *o = w->options;
    struct image img;
    enum image_verdict verdict = image_from_pack(&img, stored);
    if (verdict != IMAGE_OK)
        return verdict == IMAGE_NO_MEMORY ? ERR_NOMEM : ERR_CORRUPT;
    size_t bytes = (size_t)o->height * (size_t)o->width * (size_t)o->channels;
    int err = image_fit(&img, o->height, o->width, o->channels,
                        d->pixels + (size_t)d->count * bytes);
    image_release(&img);
    if (err)
        return err;
    if (w->origins)
        w->origins[d->count] = w->at;
    d->labels[d->count++] = class_index;
    return 0;
}

/* An exemplar: of a class that is known. A version that was not made active may have kept others. */
static int add_known(struct walk *w, const struct pack_image *stored, int class_index)
{
    return class_index < w->source->plan->known ? add_image(w, stored, class_index) : 0;
}

/* Room for `images`; `count` then counts up as they come. */
static int dataset_room(struct dataset *d, int64_t images, const struct job_options *o)
{
    if (images > INT32_MAX)
        return ERR_NOMEM;
    int err = dataset_init(d, (int)images, o->height, o->width, o->channels);
    if (!err)
        d->count = 0;
    return err;
}

/* ---- exemplars ---- */

static int open_exemplars_of(const char *data_dir, int64_t version, struct pack **out)
{
    char path[4400];
    data_path_number(path, sizeof path, data_dir, "exemplars", version);
    return pack_open(out, path);
}

int data_exemplars_open(const char *data_dir, const int64_t *served, int count, struct pack **out,
                        int64_t *version)
{
    int err = ERR_MISSING;
    for (int i = 0; i < count && err == ERR_MISSING; i++) {
        err = open_exemplars_of(data_dir, served[i], out);
        *version = served[i];
    }
    return err;
}

/* Calls `each` for the files of the folder; goes on after an error and returns the first. */
static int each_exemplars(const char *data_dir,
                          int (*each)(const char *path, const char *name, void *ctx), void *ctx)
{
    char path[4400];
    struct dirent *entry;
    int first_err = 0;
    data_path(path, sizeof path, data_dir, "exemplars", "", "");
    DIR *dir = opendir(path);
    if (!dir)
        return ERR_IO;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        data_path(path, sizeof path, data_dir, "exemplars", entry->d_name, "");
        int err = each(path, entry->d_name, ctx);
        first_err = first_err ? first_err : err;
    }
    closedir(dir);
    return first_err;
}

struct counting {
    int64_t but; /* version */
    struct data_exemplars_total total;
};

static int count_file(const char *path, const char *name, void *ctx)
{
    struct counting *c = ctx;
    struct pack *pack;
    struct stat st;
    if (strtoll(name, NULL, 10) == c->but)
        return 0;
    if (stat(path, &st) != 0)
        return errno == ENOENT ? 0 : ERR_IO; /* removed just now */
    c->total.bytes += st.st_size;
    if (pack_open(&pack, path) == 0) {
        c->total.images += pack_image_count(pack);
        pack_close(pack);
    }
    return 0;
}

int data_exemplars_count(const char *data_dir, int64_t version, struct data_exemplars_total *out)
{
    struct counting c = {.but = version};
    int err = each_exemplars(data_dir, count_file, &c);
    if (!err)
        *out = c.total;
    return err;
}

static int remove_file(const char *path, const char *name, void *ctx)
{
    (void)name;
    (void)ctx;
    return unlink(path) == 0 || errno == ENOENT ? 0 : ERR_IO;
}

/* What was removed does not come back after a power cut. */
static int sync_exemplars(const char *data_dir)
{
    char path[4400];
    data_path(path, sizeof path, data_dir, "exemplars", "", "");
    return durable_sync_parent(path);
}

int data_exemplars_forget(const char *data_dir, const int64_t *versions, int count)
{
    char path[4400];
    int first_err = 0;
    for (int i = 0; i < count; i++) {
        data_path_number(path, sizeof path, data_dir, "exemplars", versions[i]);
        int err = remove_file(path, NULL, NULL);
        first_err = first_err ? first_err : err;
    }
    return first_err ? first_err : sync_exemplars(data_dir);
}

int data_exemplars_remove(const char *data_dir)
{
    int err = each_exemplars(data_dir, remove_file, NULL);
    return err ? err : sync_exemplars(data_dir);
}

void data_set_release(struct data_set *d)
{
    dataset_release(&d->images);
    free(d->origins);
    *d = (struct data_set){0};
}

/* Room for the training images and the exemplars in `pack` (may be NULL). */
static int data_set_room(struct data_set *d, const struct data_source *s,
                         const struct job_options *o, const struct pack *pack)
{
    int64_t count = plan_train_images(s->plan) + (pack ? pack_image_count(pack) : 0);
    int err = dataset_room(&d->images, count, o);
    if (err)
        return err;
    d->origins = malloc(((size_t)count + 1) * sizeof *d->origins);
    return d->origins ? 0 : ERR_NOMEM;
}

static int refuse_exemplars(struct refusal *why, int err)
{
    return unreadable(err)
               ? refuse(why, 422, "corrupt_exemplars",
                        "The kept images of known classes are damaged (%s). Remove them with "
                        "DELETE /api/v1/exemplars and start a new job.",
                        err_str(err))
               : err;
}

int data_train(const struct data_source *s, const struct job_options *o, struct data_set *out,
               struct refusal *why)
{
    struct data_set d = {0};
    struct pack *pack = NULL;
    struct walk w = {.source = s, .options = o, .out = &d.images, .image = add_image};
    int err = 0;
    if (o->learner.exemplars_total > 0 && s->plan->known > 0)
        err = data_exemplars_open(s->data_dir, s->plan->served, s->plan->served_count, &pack,
                                  &w.version);
    if (err && err != ERR_MISSING)
        return refuse_exemplars(why, err);
    err = data_set_room(&d, s, o, pack);
    w.origins = d.origins;
    if (!err)
        err = walk_train(&w, why);
    if (!err && pack) {
        int before = d.images.count;
        w.at.pack = s->plan->train_count;
        w.image = add_known;
        w.batch = NULL;
        err = refuse_exemplars(why, walk_images(&w, pack));
        d.exemplars = d.images.count - before;
        d.exemplars_version = w.version;
    }
    pack_close(pack);
    if (err)
        data_set_release(&d);
    else
        *out = d;
    return err;
}

/* The packs that origins speak of; packs[train_count] is NULL when there are no exemplars, or none
 * any more: whatever else is in force by then, the origins are not of it. */
static int open_packs(const struct data_source *s, const struct data_set *d, struct pack **packs)
{
    char path[4400];
    int err = d->exemplars ? open_exemplars_of(s->data_dir, d->exemplars_version,
                                               &packs[s->plan->train_count])
                           : 0;
    if (err == ERR_MISSING)
        err = 0;
    for (int i = 0; i < s->plan->train_count && !err; i++) {
        batch_path(path, sizeof path, s, &s->plan->train[i], ".train");
        err = pack_open(&packs[i], path);
    }
    return err;
}

/* Under the present name of its class. */
static int copy_image(struct pack_writer *w, const struct pack *pack, int index, const char *label)
{
    struct pack_image image;
    int err = pack_image(pack, index, &image);
    if (!err)
        err = pack_writer_label(w, label, &image.label);
    return err ? err : pack_writer_add(w, &image);
}

int data_keep(const struct data_source *s, const struct data_set *d, const int *kept, int count)
{
    char temporary[4400], path[4400];
    struct pack_writer *w = NULL;
    int packs = s->plan->train_count + 1;
    if (count == 0)
        return 0;
    data_path(temporary, sizeof temporary, s->data_dir, "tmp", "exemplars", "");
    data_path_number(path, sizeof path, s->data_dir, "exemplars", s->plan->version);
    struct pack **open = calloc((size_t)packs, sizeof *open);
    int err = open ? open_packs(s, d, open) : ERR_NOMEM;
    unlink(temporary); /* of a publication that was interrupted */
    if (!err)
        err = pack_writer_new(&w, temporary);
    for (int i = 0; i < count && !err; i++) {
        struct data_origin o = d->origins[kept[i]];
        if (open[o.pack]) /* NULL: exemplars that were removed meanwhile stay removed */
            err = copy_image(w, open[o.pack], o.index,
                             s->plan->names[d->images.labels[kept[i]]]);
    }
    if (err)
        pack_writer_abort(w);
    else
        err = pack_writer_finish(w, NULL);
    if (!err)
        err = durable_rename(temporary, path);
    for (int i = 0; open && i < packs; i++)
        pack_close(open[i]);
    free(open);
    return err;
}

int data_test(const struct data_source *s, const struct job_options *o, struct dataset *out)
{
    struct dataset d;
    struct walk w = {.source = s, .options = o, .out = &d, .image = add_image};
    int64_t images = 0;
    for (int i = 0; i < s->plan->test_count; i++)
        images += s->plan->test[i].test_count;
    int err = dataset_room(&d, images, o);
    for (int i = 0; i < s->plan->test_count && !err; i++) {
        const struct batch *b = &s->plan->test[i];
        int before = d.count;
        err = walk_pack(&w, b, ".test", b->test_count);
        if (unreadable(err)) {
            log_warning("the test images of batch '%s' are left out: %s", b->name, err_str(err));
            d.count = before;
            err = 0;
        }
    }
    if (err) {
        dataset_release(&d);
        return err;
    }
    *out = d;
    return 0;
}
