/*
 * model.h - a learned classifier: network, parameters, normalisation, steps and prototypes.
 *
 * What a version is made of, in memory. A dense model file and a pruned snapshot file
 * (m2kd/snapshot.h) both load into this one struct, so serving, teaching and rolling back share
 * a path. A model is immutable once published and is shared between threads by reference count.
 */
#ifndef ACCRETED_CORE_MODEL_MODEL_H
#define ACCRETED_CORE_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/model/resnet.h"

enum {
    MODEL_MAX_STEPS = 1024,
    MODEL_MAX_CHANNELS = 4,
    MODEL_MAX_WIDTH = 4096, /* of the features a classifier of means sees; so many experts at most */
    MODEL_EXPERT_NAME = 56, /* bytes, with the zero */
};

enum classifier {
    CLASSIFIER_HEAD = 0,         /* the main head's logits */
    CLASSIFIER_PROTOTYPES = 1,   /* cosine of features and prototypes: the nearest class mean */
    CLASSIFIER_DISCRIMINANT = 2, /* linear discriminant of prototypes and covariance */
};

/* The name of an expert's file among the snapshots, padded with zeros. */
typedef char model_expert_name[MODEL_EXPERT_NAME];

/* What classifiers see of a network, the model's own and its experts' alike. As it stands in files. */
struct model_view {
    int32_t mirrored; /* 1: the mean of the features of an image and of its mirror image; 0: the features of the image */
    float power;      /* classifiers of means: to which each feature is raised before they become a unit vector */
};
/* The least power; the most is 1. */
#define MODEL_POWER_MIN 0.1f

struct model {
    struct resnet *net;  /* owned */
    float *params;       /* owned; net->params.count floats */
    float mean[MODEL_MAX_CHANNELS], std[MODEL_MAX_CHANNELS]; /* of pixels in 0..1 */
    struct model_view view;
    int step_count;      /* increments so far, >= 1 */
    int *step_end;       /* owned; classes known after each step, the last = spec.classes */
    enum classifier classifier; /* what scores are computed from */
    /* Experts: earlier snapshots whose features a classifier of means sees too, the oldest first; there, their classes have not drifted. */
    int expert_count;
    model_expert_name *expert_names; /* owned; (expert_count) */
    struct model **experts;          /* owned; (expert_count) references; NULL until they are loaded (m2kd/experts.h) */
    float *prototypes;   /* owned; (classes, model_width) means of features, a unit vector of each expert and last of net; always present */
    float *covariance;   /* owned; COVARIANCE_FLOATS(model_width), see m2kd/prototypes.h; always present */
    uint32_t *images;    /* owned; (classes) training images behind each prototype; 0: not known; always present */
    uint8_t *retired;    /* owned; (classes), 1 = never to be predicted (retire.h); not in files */
    float score_scale;   /* probabilities = softmax(score_scale * scores) */
    _Atomic int references;
};

/* A model with zeroed parameters, prototypes, covariance, image counts and mean, std, view.power and score_scale 1, classifier head;
 * one reference. `step_end` is copied.
 * Errors: ERR_INVALID (steps not increasing, last one not spec->classes), ERR_NOMEM. */
int model_new(struct model **out, const struct resnet_spec *spec, const int *step_end,
              int step_count, enum conv_isa isa);
/* A model of its own without experts and with zeroed statistics that is `from` in all else but its network's isa and precision, which
 * is fp32; one reference. Errors: ERR_INVALID (isa not available), ERR_NOMEM. */
int model_copy_network(struct model **out, const struct model *from, enum conv_isa isa);
/* A model of its own that is `from` in everything but its network's isa and precision, which is fp32; one reference. It holds the
 * experts of `from`, which must be of that isa.
 * Errors: ERR_INVALID (isa not available), ERR_NOMEM. */
int model_copy(struct model **out, const struct model *from, enum conv_isa isa);
/* Floats of a prototype: the features of all experts and of the network. */
int model_width(const struct model *m);
/* Gives m, which has none, these experts: names are copied, models held; `experts` may be NULL: not loaded. Prototypes and covariance
 * become zeros of the new width. Errors: ERR_FORMAT (count negative, or more than MODEL_MAX_WIDTH allows), ERR_NOMEM; m is as before then. */
int model_set_experts(struct model *m, const model_expert_name *names, struct model *const *experts,
                      int count);
/* Frees prototypes and covariance of what lends its features alone; nothing that needs them may be called then. */
void model_drop_statistics(struct model *m);
/* The same model without experts, its statistics those of the network's own features; `m` itself, held, where it has none. New, one
 * reference. Errors: ERR_NOMEM. */
int model_alone(struct model **out, struct model *m);
/* Prototypes, covariance and image counts of the classes that `from` knows, all of which `to` has, of as many features. */
void model_copy_statistics(struct model *to, const struct model *from);
/* Whether m is of the network of `from`, with its steps and `more` after them, and sees images alike (mean, std, view): what files
 * that belong together are asked. */
bool model_continues(const struct model *m, const struct model *from, int more);
/* Whether both see images alike, and with the same experts. */
bool model_same_experts(const struct model *a, const struct model *b);
struct model *model_hold(struct model *m);
void model_release(struct model *m); /* frees at zero; NULL is fine */

/* First class (inclusive) and end (exclusive) of step `step` (0-based). */
void model_step_classes(const struct model *m, int step, int *first, int *end);

/* The dense file. Blocks on the disk; errors as container.h, and ERR_FORMAT for inconsistent
 * sections. No float that is not finite and no negative variance gets in (ERR_CORRUPT, ERR_FORMAT) or out
 * (model_save: ERR_INVALID, nothing is written). */
int model_save(const struct model *m, const char *path, uint64_t *out_bytes);
int model_load(struct model **out, const char *path, enum conv_isa isa);

/* The linear map of features that the classifier is, unless it is the head: scores = rows (classes, model_width) times
 * features, plus bias (classes). Errors: ERR_INVALID (it is the head), ERR_NUMERIC (the covariance is none), ERR_NOMEM. */
int model_classifier_rows(const struct model *m, float *rows, float *bias);

/* Bytes of the parameters as dense fp32: what a snapshot is compared with. */
uint64_t model_dense_bytes(const struct model *m);

#endif
