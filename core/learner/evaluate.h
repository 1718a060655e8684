/*
 * evaluate.h - accuracy of a model on test images: per class, and the confusion matrix.
 */
#ifndef ACCRETED_CORE_LEARNER_EVALUATE_H
#define ACCRETED_CORE_LEARNER_EVALUATE_H

#include <stdint.h>

#include "core/learner/dataset.h"
#include "core/model/frozen.h"
#include "core/nn/gang.h"

struct evaluation {
    int classes;
    uint32_t *confusion; /* owned; (classes, classes): row = true class, column = predicted */
};

/* Classifies every image of `test` (labels in 0..classes-1) with the model's classifier, split over the gang.
 * Errors: ERR_NOMEM, ERR_INVALID (a label out of range, or image shape other than the model's). */
int evaluate(struct evaluation *out, const struct frozen *f, const struct dataset *test,
             struct gang *gang);
void evaluation_release(struct evaluation *e);

uint32_t evaluation_total(const struct evaluation *e, int class_index);
uint32_t evaluation_correct(const struct evaluation *e, int class_index);
/* Share of all test images classified right; NaN when there are none. */
double evaluation_accuracy(const struct evaluation *e);

#endif
