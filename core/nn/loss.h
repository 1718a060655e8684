/*
 * loss.h - the classification and distillation losses on logits, value and gradient together.
 *
 * Logits z are n rows of `ld` floats; a loss looks at columns [lo, hi) only. Each function
 * returns the loss summed over rows (in double) times `scale`, and adds scale * d(loss)/dz to
 * the same columns of dz (same layout as z). So several terms may share one dz. Formulas in
 * METHOD terms (sigma = logistic function):
 *   sigmoid form   -sum_c t_c log sigma(z_c) + (1 - t_c) log(1 - sigma(z_c))
 *   softmax form   -sum_c t_c log softmax(z / T)_c, times T^2 for distillation
 * computed stably for logits of any finite size.
 */
#ifndef ACCRETED_CORE_NN_LOSS_H
#define ACCRETED_CORE_NN_LOSS_H

/* Targets one-hot of labels[i] (all zero when the label lies outside [lo, hi)). */
double loss_sigmoid_labels(int n, int ld, int lo, int hi, const float *z, const int *labels,
                           float scale, float *dz);
/* Targets sigma(teacher[i][c]); the teacher's rows are `ld_teacher` floats, same columns. */
double loss_sigmoid_teacher(int n, int ld, int lo, int hi, const float *z, int ld_teacher,
                            const float *teacher, float scale, float *dz);
/* Cross-entropy of softmax over the columns; every label must lie in [lo, hi). */
double loss_softmax_labels(int n, int ld, int lo, int hi, const float *z, const int *labels,
                           float scale, float *dz);
/* T^2 * cross-entropy of softmax(z/T) against softmax(teacher/T). */
double loss_softmax_teacher(int n, int ld, int lo, int hi, const float *z, int ld_teacher,
                            const float *teacher, float temperature, float scale, float *dz);

/* 1 - cos(features, target), both n rows of `width` floats, summed and scaled like the others: half the squared distance of their
 * unit vectors. A row of zeros on either side has nothing to say. */
double loss_cosine(int n, int width, const float *features, const float *target, float scale,
                   float *dfeatures);

#endif
