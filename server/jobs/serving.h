/*
 * serving.h - one version made ready to answer: frozen model, class names, version number.
 *
 * Immutable and reference-counted: whoever answers from one holds it, so it may be replaced at any
 * time. Any thread, but serving_load blocks on the disk.
 */
#ifndef ACCRETED_SERVER_JOBS_SERVING_H
#define ACCRETED_SERVER_JOBS_SERVING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/model/frozen.h"
#include "server/decode/image.h"

struct db_txn;

struct serving {
    int64_t version;
    struct frozen *frozen; /* of the model without what is retired (model_live) */
    int class_count;
    char **class_names; /* by output of `frozen` */
    _Atomic int references;
};

struct prediction {
    int class_index;
    float score; /* probability */
};

/* Builds a serving from a loaded model, shared with nobody yet, and its class names (copied), NULL for
 * each class that is retired. Errors: ERR_NOMEM, ERR_INVALID (all are). */
int serving_new(struct serving **out, int64_t version, struct model *model,
                const char *const *class_names);
/* Marks the classes without a name as retired. ERR_CORRUPT: the model has not `count` classes. */
int retire_unnamed(struct model *model, const char *const *class_names, int count);
/* The model of a version, from its dense file while there is one, else rebuilt from the snapshot
 * (*from_snapshot tells; NULL is fine). Blocks on the disk. Errors: those of model_load. */
int version_load(struct model **out, const char *data_dir, int64_t version, enum conv_isa isa,
                 bool *from_snapshot);
/* A serving of what version_load finds. Errors: those of model_load; ERR_CORRUPT when the file has not `class_count` classes. */
int serving_load(struct serving **out, const char *data_dir, int64_t version,
                 const char *const *class_names, int class_count, enum conv_isa isa);
/* Whether its version is still there, and the classes are called what it calls them. Loop. */
bool serving_current(const struct serving *s, struct db_txn *t);
struct serving *serving_hold(struct serving *s);
void serving_release(struct serving *s); /* NULL is fine */

/* Channels, height and width of the images it takes. */
const struct resnet_spec *serving_spec(const struct serving *s);
/* Floats of one image, normalised: (height, width, channels). */
size_t serving_image_floats(const struct serving *s);
/* Floats of one image's features. */
size_t serving_feature_count(const struct serving *s);
/* Makes rows of features (n), each a unit vector of every network, unit vectors as a whole. */
void serving_join_features(const struct serving *s, int n, float *features);

/* One decoded image, resized to the model's input, normalised into x. Errors: ERR_NOMEM. */
int serving_fit(const struct serving *s, const struct image *img, float *x);
/* One image given as planes (channels, height, width) of pixel values 0..255, normalised into x. */
void serving_fit_planes(const struct serving *s, const float *planes, float *x);

/* The likeliest `k` classes, k clipped to their number, by falling probability into top; the lower
 * index first among equals. `probabilities` are one image's. Returns how many. */
int serving_top(const struct serving *s, const float *probabilities, int k, struct prediction *top);

#endif
