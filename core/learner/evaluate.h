/*
 * evaluate.h - what a model makes of a data set, split over the gang: features, scores, accuracy.
 */
#ifndef ACCRETED_CORE_LEARNER_EVALUATE_H
#define ACCRETED_CORE_LEARNER_EVALUATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/learner/dataset.h"
#include "core/model/frozen.h"
#include "core/nn/gang.h"

enum { EVALUATION_SAMPLE = 4096, EVALUATION_MODELS = 2 };

struct evaluation {
    int classes;
    uint32_t *confusion; /* owned; (classes, classes): row = true class, column = predicted */
    int sampled;         /* images whose scores were kept: all, or every n-th, EVALUATION_SAMPLE at most */
    float *scores;       /* owned; (sampled, classes), raw */
    int *labels;         /* owned; (sampled) */
};

/* Features (data->count, model_width), a unit vector of each expert and of the network, of the images
 * themselves (no random views), and from the same pass the raw scores (data->count, classes) of the
 * model's classifier, unless `scores` is NULL.
 * Errors: ERR_NOMEM, ERR_INVALID (image shape other than the model's), ERR_CANCELLED (`command`,
 * which may be NULL, is no longer 0; polled every few images). */
int evaluate_features(struct frozen *f, const struct dataset *data, struct gang *gang,
                      const atomic_int *command, float *features, float *scores);

/* Classifies every image of `test` (labels in 0..classes-1) with the classifiers of `count` models of one network (model_continues), 1 <= count <=
 * EVALUATION_MODELS, into out (count); experts that others share with the first are asked once for all
 * (frozen_new_alone will do for those).
 * Errors as above, and ERR_INVALID for a label out of range; `out` is as it was then. */
int evaluate(int count, struct evaluation *out, struct frozen *const *models,
             const struct dataset *test, struct gang *gang, const atomic_int *command);
void evaluation_release(struct evaluation *e);

uint32_t evaluation_total(const struct evaluation *e, int class_index);
uint32_t evaluation_correct(const struct evaluation *e, int class_index);
/* Share of all test images classified right; NaN when there are none. */
double evaluation_accuracy(const struct evaluation *e);

#endif
