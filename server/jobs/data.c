/*
 * data.c - see data.h.
 */
#include "server/jobs/data.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/err.h"
#include "core/learner/learner.h"
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
    struct dataset *out;
    int (*image)(struct walk *w, const struct pack_image *stored, int class_index);
    int width, height, channels; /* for see_size: of the images so far; 0: none, -1: mixed */
};

/* Output index by label of the pack, -1 for labels this job does not know; owned by the caller. */
static int *class_map(const struct plan *plan, const struct pack *pack)
{
    int labels = pack_label_count(pack);
    int *map = malloc(((size_t)labels + 1) * sizeof *map);
    for (int i = 0; map && i < labels; i++)
        map[i] = plan_class(plan, pack_label(pack, i));
    return map;
}

static int walk_images(struct walk *w, const struct pack *pack)
{
    int *map = class_map(w->source->plan, pack);
    int err = map ? 0 : ERR_NOMEM;
    for (int i = 0; i < pack_image_count(pack) && !err; i++) {
        struct pack_image stored;
        err = check_command(w->source);
        if (!err)
            err = pack_image(pack, i, &stored);
        if (!err && map[stored.label] >= 0)
            err = w->image(w, &stored, map[stored.label]);
    }
    free(map);
    return err;
}

static int walk_pack(struct walk *w, const struct batch *b, const char *suffix, int64_t images)
{
    char path[4400];
    struct pack *pack;
    data_path(path, sizeof path, w->source->data_dir, "batches", b->hash, suffix);
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
        int err = walk_pack(w, b, ".train", b->train_count);
        if (err == ERR_CORRUPT || err == ERR_FORMAT || err == ERR_MISSING)
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
    d->labels[d->count++] = class_index;
    return 0;
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

int data_train(const struct data_source *s, const struct job_options *o, struct dataset *out,
               struct refusal *why)
{
    struct dataset d;
    struct walk w = {.source = s, .options = o, .out = &d, .image = add_image};
    int err = dataset_room(&d, plan_train_images(s->plan), o);
    if (err)
        return err;
    err = walk_train(&w, why);
    if (err) {
        dataset_release(&d);
        return err;
    }
    *out = d;
    return 0;
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
        if (err == ERR_CORRUPT || err == ERR_FORMAT || err == ERR_MISSING) {
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
