/*
 * learner_state.h - private to learner.c, origin.c, fit.c, classify.c and compress.c: an increment in progress.
 */
#ifndef ACCRETED_CORE_LEARNER_LEARNER_STATE_H
#define ACCRETED_CORE_LEARNER_LEARNER_STATE_H

#include "core/learner/learner.h"
#include "core/learner/objective.h"
#include "core/model/train.h"

struct learner {
    const struct learner_job *job;
    const struct learner_options *options;
    enum conv_isa isa;
    struct gang *gang;
    struct model *base;        /* what is built on: the job's; with shared snapshots the last one. NULL for the first step */
    struct model *origin;      /* whose statistics of old classes are carried over: the last snapshot, which may become an expert, or
                                  without experts the base. NULL for the first step */
    uint8_t *owned;            /* (params.count) by mask.h: weights of earlier steps, which stay as they are; NULL: none */
    struct model *model;       /* what is being learned: first the dense model, then ... */
    struct model *pruned;      /* ... its pruned copy */
    struct resnet *net;        /* of the same shape, in the precision of training */
    struct train *train;
    struct teachers *teachers; /* NULL without distillation */
    float *velocity;           /* (params.count) */
    uint8_t *mask;             /* (params.count); NULL until pruning */
    bool refines;              /* no class is new: step, weights and classes stay the base's */
    int old_classes, step;     /* classes before this increment; its 0-based number */
    uint64_t fingerprint;
    int *kept, kept_count;     /* images to keep, as in learner_result */

    /* random order, and progress over both the training and the retraining epochs */
    int *order;                /* (train count) */
    int *labels;               /* (batch) of the batch in work */
    int epochs_done, epochs_dense, epochs_total; /* of those the dense model's come first */
    int64_t images_done;       /* in this run */
    double seconds;            /* spent in epochs, in this run */
    bool resumed, reproducible;
    enum learner_phase phase;
};

/* Stream numbers of the job's random draws; the seed is mixed with the step (stream_init in fit.c). */
enum { STREAM_ORDER = 2, STREAM_VIEW = 3 };

/* Runs epochs epochs_done..end-1 on `params`, of a schedule of `end - first` epochs that starts at learning rate `rate`.
 * Writes a checkpoint after each. With `mask`, weights where it is not MASK_KEPT stay as they are. Errors: ERR_CANCELLED,
 * ERR_STOPPED, ERR_DIVERGED, those of checkpoint_save. */
int fit_epochs(struct learner *l, int first, int end, float rate, float *params,
               const uint8_t *mask);

/* The learning rate that the job's schedules begin with. */
float learner_rate(const struct learner *l);
/* The job is in another phase now, of which the caller of learner_run is told. */
void learner_enter(struct learner *l, enum learner_phase phase);
/* Tells the caller of learner_run where the job stands: `fraction` of all epochs done. */
void learner_report(struct learner *l, double fraction);
/* What the command word asks for: 0, ERR_CANCELLED or ERR_STOPPED. It never goes back to COMMAND_RUN. */
int learner_commanded(const struct learner *l);
/* The state after l->epochs_done epochs, `params` being trained. Errors as checkpoint_save. */
int learner_save_checkpoint(struct learner *l, float *params);

/* Prototypes, covariance, image counts and score scale of l->model and l->pruned, whose parameters are
 * final, and which have the base's where no class is new; of the dense model, the images to keep. They
 * and the origin, with its experts, go over the images once each. Errors: ERR_NOMEM, ERR_NUMERIC, those of the command word. */
int learner_finish_classifiers(struct learner *l);
/* l->origin, its experts loaded; NULL, where nothing is carried over. Blocks on the disk. Errors: those of snapshot_load, ERR_FORMAT. */
int learner_prepare_origin(struct learner *l);
/* As experts_load. */
int learner_load_experts(const struct learner *l, struct model *m);
/* Retires of m what is retired of `known`. */
void learner_retire_like(struct model *m, const struct model *known);
/* Gives m, whose parameters are final, its experts, and the statistics of old classes. `old`: features of the training images by
 * the origin, (count, model_width); *features: those of m's network (count, feature_count), which are replaced by those m has from
 * now on, (count, model_width). Errors: ERR_NOMEM, ERR_NUMERIC, those of the command word. */
int learner_carry_over(struct learner *l, const float *old, struct model *m, float **features);
/* Whether there are test images enough for the scores' scale; else it is that of the training images. */
static inline bool learner_scales_on_test(const struct learner *l)
{
    return l->job->test->count >= CALIBRATION_IMAGES;
}
/* Makes l->pruned and l->mask: masks, retrains and rounds a copy of l->model; then what is left to do for both: the rows in reserve go, the
 * classifiers come. Frees l->train. Errors: those of fit_epochs, learner_finish_classifiers and snapshot_round. */
int learner_prune(struct learner *l);
/* In place of training, where no class is new: the base as l->model and its snapshot as l->pruned keep their weights to the bit, and their
 * statistics take in the new images. Errors: those of snapshot_load and learner_finish_classifiers; ERR_FORMAT. */
int learner_refine(struct learner *l);
/* The share of the convolution weights that the mask prunes. */
double learner_sparsity(const struct learner *l);
/* Writes l->pruned to the job's snapshot_path, in the store it belongs to. Errors: as snapshot_save. */
int learner_save_snapshot(struct learner *l, uint64_t *bytes);
/* Scales the head's new rows, where the options ask for it (weight_align). */
void learner_align_head(const struct learner *l, struct model *m);

#endif
