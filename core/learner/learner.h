/*
 * learner.h - one increment: learn new classes on top of a model, without the old images.
 *
 *          +---------+    +--------+    +-------+    +-------+    +----------+    +---------+
 *   run -> | prepare | -> | distil | -> | train | -> | prune | -> | evaluate | -> | publish | -> 0
 *          +---------+    +--------+    +-------+    +-------+    +----------+    +---------+
 *   prepare   grow the heads, or initialise; load the checkpoint if there is one
 *   distil    rebuild the teachers from their snapshot files
 *   train     epochs of SGD on the M2KD loss; a checkpoint after each
 *   prune     mask, retrain and round a copy, which becomes the snapshot; prototypes
 *   evaluate  confusion matrices of the dense model and of the snapshot; the scale of their scores, where there are test images
 *   publish   write the model and snapshot files
 *
 * Images of known classes may be among those of new ones. They are trained on without a label: teachers, if there are any, speak of them
 * as of any image, and to new outputs they are something else; with exemplars softmax classification takes their labels. Their
 * classes' means and what they bring to the covariance are those of all images, old and new by their number.
 * Where no class is new, the job refines its base, with none of distil, train and prune:
 *
 *          +---------+    +----------+    +---------+
 *   run -> | prepare | -> | evaluate | -> | publish | -> 0
 *          +---------+    +----------+    +---------+
 *   prepare   takes features of the images, and means, covariance and exemplars from them
 * Step, outputs and all weights are those of the base, to the bit, of its snapshot too, which has means of its own features.
 * Training would lose the other classes: one class alone has nothing to be told from.
 *
 * From every phase the command word leads out at once: ERR_CANCELLED or ERR_STOPPED.
 *
 * learner_run blocks for the whole job on the calling thread, which only coordinates. It makes its own gang and frees everything before it returns.
 * Same options (with the seed), data, gang size and CPU kernel: the same files, bit for bit, also when it was
 * stopped and resumed from a checkpoint.
 */
#ifndef ACCRETED_CORE_LEARNER_LEARNER_H
#define ACCRETED_CORE_LEARNER_LEARNER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/learner/dataset.h"
#include "core/learner/evaluate.h"
#include "core/m2kd/exemplars.h"
#include "core/m2kd/teachers.h"
#include "core/model/model.h"
#include "core/model/sgd.h"

enum learner_method {
    METHOD_M2KD,
    METHOD_FINETUNE, /* no teachers: a control, and what is best where images of all old classes are replayed beside experts */
    METHOD_FROZEN,   /* control: the network of the first step stays as it is; later steps only add prototypes */
    METHOD_AUTO,     /* one of the first two, to be settled before learner_run (learner_settle_method) */
};
enum learner_loss { LOSS_SIGMOID, LOSS_SOFTMAX };
/* Test images from which on the scale of the scores is fitted on them. */
enum { CALIBRATION_IMAGES = 100 };
/* How snapshots are kept (m2kd/snapshot.h). */
enum snapshot_store { STORE_STANDALONE, STORE_SHARED };
/* With less than this share of the convolution weights free another shared step cannot learn enough to be worth it. */
#define STORE_FREE_MIN 0.05

struct learner_options {
    enum learner_method method;
    enum learner_loss loss;
    enum teachers_which teachers;
    int teachers_per_image; /* each view is shown to this many, in turn; 0 = to all */
    enum conv_precision teachers_precision; /* of their convolutions */
    enum classifier classifier;
    bool aux;           /* auxiliary distillation and classification at the taps */
    float logit_weight; /* weight of the distillation of the main head's logits */
    float lambda;       /* weight of the auxiliary distillation */
    float feature_weight; /* of the distance of the features from those of the model built on; above 0 that is among the teachers */
    float aux_weight;   /* weight of the auxiliary heads' classification loss */
    float temperature;  /* of the softmax form */
    /* 0, or with the sigmoid form the losses are those of a head of this many outputs from the first step on: means over them
     * instead of sums, and outputs of classes not seen yet have target 0 (LwF.MC). No more than the classes once these are more. */
    int head_reserve;
    /* So many snapshots of earlier steps at most, the first ones, are experts of a classifier of means (m2kd/experts.h); each costs a
     * prediction one network more. No more than MODEL_MAX_WIDTH has room for; none with the head as classifier, or where the network
     * stays as it is. A job that refines its base keeps that one's. */
    int experts;
    int exemplars_total;    /* images kept after the job, the same number of each class; 0 = none */
    enum exemplars_select exemplars_select;
    /* With exemplars, the softmax form and the head as classifier: the main head's new rows are scaled to the mean length of the
     * old ones, against the preference for new classes (WA, Zhao et al. 2020). */
    bool weight_align;
    /* The network (resnet_from_depth); used by the first step only. */
    enum resnet_arch arch;
    int blocks;
    int epochs, batch;
    struct sgd_options sgd;
    float lr_later;     /* factor on the learning rate for steps after the first */
    struct view_options view;
    /* With view.flip: classifiers see the mean of the features of an image and of its mirror image (model.h, model_view), for twice the
     * time of a prediction. Used by the first step only, as is feature_power (model.h, model_view). */
    bool mirror;
    float feature_power;
    float prune_keep;   /* share of convolution weights a snapshot keeps, 0..1 */
    int prune_epochs;   /* epochs of retraining the pruned copy */
    int prune_bits;     /* of a kept weight in the snapshot (snapshot.h) */
    /* STORE_SHARED: the snapshot claims prune_keep of the weights that earlier ones left free. Training begins with the last
     * snapshot, free weights at 0; what is claimed stays as it is, to the bit: no gradient, momentum or decay touches it. Batch
     * norms, heads and prototypes are each snapshot's own and move on. The first step's file is the same in both. */
    enum snapshot_store store;
    enum conv_precision precision; /* of convolutions in training; serving is always fp32 */
    uint64_t seed;
    int gang;           /* threads */
    int nice_level;     /* of the gang's threads */
};

/* The defaults, those that measured best (README). */
void learner_options_default(struct learner_options *o);
/* 0, or ERR_INVALID with the name of the first option out of range in *bad_option (static storage). */
int learner_options_check(const struct learner_options *o, const char **bad_option);
/* Whether one of the last `exemplars` images is of the class. */
bool learner_has_exemplar(const struct dataset *train, int exemplars, int class);
/* Settles METHOD_AUTO for a job of these images, the last `exemplars` of them kept ones, on `base` (NULL: the first step): METHOD_FINETUNE
 * where the classifier sees experts and each class of the base that is not retired has exemplars, else METHOD_M2KD. Experts hold what old
 * classes looked like, and kept images say where those are now; beside both, distillation costs the new classes more than it saves the
 * old ones (tests/bench/README.md). */
void learner_settle_method(struct learner_options *o, const struct dataset *train, int exemplars,
                           const struct model *base);
/* Whether a first step with these looks at mirror images: not where training never shows any. */
static inline bool learner_mirrors(const struct learner_options *o)
{
    return o->mirror && o->view.flip;
}

enum learner_phase {
    PHASE_PREPARE, PHASE_DISTIL, PHASE_TRAIN, PHASE_PRUNE, PHASE_EVALUATE, PHASE_PUBLISH
};
enum learner_command { COMMAND_RUN, COMMAND_CANCEL, COMMAND_STOP };

struct learner_progress {
    enum learner_phase phase;
    double fraction;        /* of the whole job, 0..1, never falling */
    double images_per_second; /* of the training so far; 0 before the first batch */
};

struct learner_epoch { /* means over the epoch, per image */
    int epoch;             /* 0-based; retraining epochs of the pruned copy count on */
    bool pruned;           /* true for those */
    double loss_class, loss_mmd, loss_ad; /* L_C, L_MMD, L_AD, as weighted in objective.h */
    double accuracy;       /* of the main head on the training views, over the new classes only */
    double rate;           /* learning rate at its end */
    double seconds;
};

struct learner_job {
    const struct learner_options *options;
    /* Labels in [0, classes), none retired, at least one image of each new class; then the exemplars. Of the base's shape. */
    const struct dataset *train;
    int exemplars;               /* the last so many of train: kept images of old classes, of each the best first */
    const struct dataset *test;  /* labels in [0, classes), the shape of train; or holds no image. From CALIBRATION_IMAGES on they
                                    decide how sure the model is of its answers (score_scale), and nothing else of it */
    int classes;                 /* after this increment; those of the base: it is refined, which has no use but for classifiers
                                    of means (ERR_INVALID with the head) */
    struct model *base;          /* the active model, its experts loaded; NULL for the first step */
    const char *const *snapshot_paths; /* one an earlier step, oldest first, in one folder; base->step_count of them */
    const char *checkpoint_path, *model_path, *snapshot_path;
    atomic_int *command;         /* enum learner_command; polled between layers, images, rows */
    /* Called on the learner's thread; must not block long. */
    void (*on_progress)(void *ctx, const struct learner_progress *p);
    void (*on_epoch)(void *ctx, const struct learner_epoch *e);
    void *ctx;
};

struct learner_result {
    struct model *model;              /* the dense model as written; owned by the caller: one reference */
    struct evaluation dense, pruned;  /* on job->test; release both */
    uint64_t model_bytes, snapshot_bytes, dense_bytes; /* files, and fp32 parameters */
    double sparsity;                  /* share of convolution weights pruned away; in the shared store, free */
    int *kept, kept_count;            /* owned; images of job->train to keep as exemplars, class by class, the best first */
    bool resumed, reproducible;       /* went on from a checkpoint; all epochs ran under one kernel and gang */
    const char *kernel;               /* conv_isa_name */
    double train_seconds;
};

/* Errors: any of err.h. On an error nothing is published. The checkpoint stays but for ERR_CANCELLED: until what was learned
 * is stored, the same job may have to run again, and then goes on with no epoch left. The caller deletes it. */
int learner_run(const struct learner_job *job, struct learner_result *out);
void learner_result_release(struct learner_result *r);

#endif
