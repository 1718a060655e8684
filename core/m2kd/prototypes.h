/*
 * prototypes.h - what is kept of classes whose images are gone, how it is carried over when features drift, and the
 * classifiers made from it.
 *
 * Features are F floats (64 for CIFAR ResNets, 512 for ResNet-18), here always L2-normalised. Kept are the mean of each
 * class, its prototype, and one covariance that all classes share: how the images of a class lie around its mean. It is
 * symmetric and stored as its lower triangle, row by row: COVARIANCE_FLOATS(F) floats.
 * Pure functions on the calling thread; linear systems go through LAPACK. What multiplies all rows
 * polls `command`, which may be NULL, every few of them (core/command.h): once it is set the answer
 * is ERR_CANCELLED, and nothing is written.
 */
#ifndef ACCRETED_CORE_M2KD_PROTOTYPES_H
#define ACCRETED_CORE_M2KD_PROTOTYPES_H

#include <stdatomic.h>
#include <stddef.h>

/* Each feature, which is no less than 0, to that power: below 1, a few large ones count for less (power normalisation, Perronnin et
 * al. 2010). */
void prototypes_raise(size_t count, float power, float *features);
/* Scales each of n rows of F floats to unit length (a zero row stays zero). */
void prototypes_normalise(int n, int feature_count, float *rows);

#define COVARIANCE_FLOATS(feature_count) \
    ((size_t)(feature_count) * ((size_t)(feature_count) + 1) / 2)

/* prototypes[c] = mean of the rows with labels[i] == c, for first <= c < end; a class
 * without rows keeps what stands there. features (n, F) are unit vectors, prototypes (end, F); a mean is
 * shorter than that, the more so the wider the class is spread.
 * Sums in double, in row order. */
void prototypes_mean(int n, int feature_count, const float *features, const int *labels, int first,
                     int end, float *prototypes);

/* Fits the map M (from, to) that carries the old feature space, of `from` floats, to the new one, of `to` <= from, on current data:
 *   min over M of sum_i w_i |new_i - old_i M|^2 + ridge * |M - P|^2   (Frobenius norms),
 * where w_i is `weight` >= 0 for the last `last` rows and 1 for the others, and P takes the last `to` old features as they are (the
 * identity, if there are no others); closed form M = (O'WO + ridge I)^-1 (O'WN + ridge P), solved in double by Cholesky (LAPACK dposv). The penalty is as strong as `ridge` images in
 * each direction: where the current data say little, prototypes stay put; without any data (n = 0) M is P.
 * Errors: ERR_NUMERIC (ridge not positive and too little data, or features that are not finite),
 * ERR_NOMEM, ERR_CANCELLED. */
int prototypes_fit_map(int n, int from, int to, const float *old_features,
                       const float *new_features, int last, double weight, double ridge,
                       const atomic_int *command, float *map);

/* What is carried over into a space whose first `keep` features, 0 <= keep <= from, are the first of the old one, and whose `to` others
 * are the map's: out (n, keep + to) = [first `keep` of a row | row * map], of rows (n, from). */
void prototypes_carry(int n, int from, int to, int keep, const float *map, const float *rows,
                      float *out);

/* Moves means (classes, keep + to) that prototypes_carry made of classes, some images of which there still are: n rows, `old_features` (n,
 * from) and `new_features` (n, to). Their mean residual new_i - old_i M is how far the map is off for a class, but of few rows, so the last `to` features of its mean
 * go a share count / (count + prior) of that way, 0 <= prior. That is nearer than the mean of those few rows, as they differ less in what the
 * map leaves over than from one another. A class without rows, and labels outside 0..classes-1, change nothing.
 * Errors: ERR_NOMEM, ERR_CANCELLED. */
int prototypes_correct(int n, int from, int to, int keep, const float *old_features,
                       const float *new_features, const int *labels, const float *map, double prior,
                       const atomic_int *command, int classes, float *prototypes);

/* covariance = mean over the classes in [first, end) that have rows of (1/n_c) sum of (x - p_c)(x - p_c)', with p_c their
 * prototype as prototypes_mean makes it: each class counts the same, however many images it has. Zero without any.
 * Errors: ERR_NOMEM, ERR_CANCELLED. */
int prototypes_covariance(int n, int feature_count, const float *features, const int *labels,
                          int first, int end, const float *prototypes, const atomic_int *command,
                          float *covariance);
/* The covariance C (from) of the old features in the space of prototypes_carry, (keep + to): of the features that are kept as it is,
 * with the others C M, of the others M'CM + share R, where R is the covariance of new_i - old_i M on the n rows of current data: the map
 * explains only a part of what features do, and alone would make old classes look tighter than they are. But of features that were
 * trained on these rows, R tells more of the rows' own classes than of the old ones: 0 <= share <= 1. M is
 * prototypes_fit_map's. Errors: ERR_NOMEM, ERR_CANCELLED. */
int prototypes_carry_covariance(int n, int from, int to, int keep, const float *old_features,
                                const float *new_features, const float *map, double share,
                                const atomic_int *command, const float *covariance, float *out);

/* Nearest mean by cosine, as a linear map of unit features: rows[c] = normalised prototype, bias 0.
 * rows (classes, F), bias (classes). */
void prototypes_cosine(int classes, int feature_count, const float *prototypes, float *rows,
                       float *bias);
/* Linear discriminant analysis (Gaussians of one covariance, equal priors) on unit features: rows[c] = S^-1 p_c,
 * bias[c] = -p_c' S^-1 p_c / 2 with S = (1 - shrink) C + shrink * trace(C) / F * I, 0 < shrink <= 1; S = I when C is zero.
 * Solved in double by Cholesky. Errors: ERR_NUMERIC (C is no covariance), ERR_NOMEM. */
int prototypes_discriminant(int classes, int feature_count, const float *prototypes,
                            const float *covariance, double shrink, float *rows, float *bias);

#endif
