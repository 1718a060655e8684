/*
 * objective.h - the M2KD loss of a slice of a batch: values, and gradients of logits and features.
 *
 *   L     = L_C + L_MMD + L_AD
 *   L_C   = class(main) + aux_weight * sum over taps of class(tap)
 *   L_MMD = logit_weight * sum over teachers i of KD(main logits of i's classes)
 *   L_AD  = lambda * sum over taps, teachers i of KD(tap logits of i's classes)
 *           + feature_weight * (1 - cos(features, features of the model built on))
 * where the sums over teachers may be estimated from some of them, and for some images the model built on stands for them (teachers.h).
 *
 * class() looks at the columns of the new classes only (in the softmax form, with exemplars, at all of them); KD(.) at those its teacher teaches.
 * An image of a known class that is no exemplar is distilled like any other, and is no label of an old column: in the sigmoid form
 * its targets in the new columns are 0, in the softmax form without exemplars class() leaves it out. Every term is
 * summed over its columns and divided by the number of images in the batch, nothing else: so a term weighs the same
 * however many classes there are. (Our reading of the method; see README, "The method".) With head_reserve
 * class() takes in the columns of classes yet to come, and every term is divided by the number of outputs too.
 *
 *   loss = sigmoid   both are binary cross-entropies per column, against the label or the teacher's sigmoid
 *   loss = softmax   both are cross-entropies of the softmax within the group; KD at temperature T, times T^2
 */
#ifndef ACCRETED_CORE_LEARNER_OBJECTIVE_H
#define ACCRETED_CORE_LEARNER_OBJECTIVE_H

#include "core/learner/learner.h"
#include "core/model/train.h"

struct objective {
    const struct learner_options *options;
    const struct teachers *teachers; /* NULL: no distillation */
    int old_classes, classes;
    bool exemplars; /* old classes have images in the batches too */
    int outputs; /* of the network: classes, or more of which nothing is known yet (head_reserve) */
    int heads; /* of the network; the main one is 0 */
    int features; /* floats of the network's features */
    int batch; /* number of the batch, which says who teaches whom (teachers.h) */
};

struct objective_sums { /* over images */
    double loss_class, loss_mmd, loss_ad;
    int count;
    int correct, count_new; /* of the main head among the new classes, and images of these */
};

/* For images [lo, hi) of a batch of n: adds the gradient to the training step's dlogits and dfeatures, and values times n to *sums.
 * labels are those of the whole batch; the teachers' rows are those of the batch too. */
void objective_slice(const struct objective *o, struct train *t, int lo, int hi, int n,
                     const int *labels, struct objective_sums *sums);

#endif
