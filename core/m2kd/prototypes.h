/*
 * prototypes.h - class means of normalised features, and carrying them over when features drift.
 *
 * Features are F floats (64 for CIFAR ResNets, 512 for ResNet-18), here always L2-normalised. Only
 * the means are kept, no images. Pure functions on the calling thread; the map goes through LAPACK.
 */
#ifndef ACCRETED_CORE_M2KD_PROTOTYPES_H
#define ACCRETED_CORE_M2KD_PROTOTYPES_H

#include <stddef.h>

/* Scales each of n rows of F floats to unit length (a zero row stays zero). */
void prototypes_normalise(int n, int feature_count, float *rows);

/* prototypes[c] = normalised mean of the rows with labels[i] == c, for first <= c < end; a class
 * without rows keeps what stands there. features (n, F) are unit vectors, prototypes (end, F).
 * Sums in double, in row order. */
void prototypes_mean(int n, int feature_count, const float *features, const int *labels, int first,
                     int end, float *prototypes);

/* Fits the map M (F,F) that carries the old feature space to the new one on current data:
 *   min over M of sum_i |new_i - old_i M|^2 + ridge * n * |M - I|^2   (Frobenius norms),
 * closed form M = (O'O + ridge n I)^-1 (O'N + ridge n I), solved in double by Cholesky (LAPACK
 * dposv). The penalty is the distance from the identity: where the current data say nothing,
 * prototypes stay put; without any data (n = 0) M is the identity.
 * Errors: ERR_NUMERIC (ridge not positive and too little data, or features that are not finite),
 * ERR_NOMEM. */
int prototypes_fit_map(int n, int feature_count, const float *old_features,
                       const float *new_features, double ridge, float *map);

/* rows <- normalise(rows * map), n rows of F floats, in place. Errors: ERR_NOMEM. */
int prototypes_carry(int n, int feature_count, const float *map, float *rows);

#endif
