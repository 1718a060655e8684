/*
 * statistics.h - the means of the classes and their covariance in few bits. Pure functions, threads that of BLAS.
 *
 * An error counts by how many standard deviations it is, and of features that lie close to each other's linear combinations the last
 * deviations are small. So the covariance C is stored by its Cholesky factor: C + r I = L L', r a power of two, a twentieth to a tenth
 * of the mean variance. L_ii, the pivot, is the deviation that the features before i leave; it is sqrt(r) times a power of 2^(1/32), and
 * L_ij, j < i, a whole number of STATISTICS_FACTOR_STEP pivots. What comes back is a covariance by its form, r I less.
 * A mean p is stored as y, p = L y, whose entries are deviations, each a whole number of STATISTICS_MEAN_STEP.
 *
 * Sums of these whole numbers are exact in double whatever their order, so that decoding gives the same floats with any BLAS.
 */
#ifndef ACCRETED_CORE_M2KD_STATISTICS_H
#define ACCRETED_CORE_M2KD_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATISTICS_FACTOR_STEP (1.0 / 64)
#define STATISTICS_MEAN_STEP (1.0 / 16)
enum {
    STATISTICS_EXPONENT_MIN = -60, /* r = 2^exponent */
    STATISTICS_EXPONENT_MAX = 10,
    STATISTICS_MEAN_MAX = 8192 /* of a mean's codes */
};
/* Of means and covariance, far above those of unit features. */
#define STATISTICS_ENTRY_MAX 1024.0f

struct statistics_codes {
    int classes, width;
    int exponent;    /* STATISTICS_EXPONENT_MIN..MAX */
    uint8_t *pivots; /* (width): L_ii = 2^(exponent / 2 + pivot / 32) */
    int16_t *factor; /* (width (width - 1) / 2): L_ij over its step, j < i, row by row */
    int16_t *means;  /* (classes, width): y over its step, at most STATISTICS_MEAN_MAX; all 0 for a mean that is 0, and for no other */
};

/* Codes all zero. Errors: ERR_NOMEM. */
int statistics_codes_init(struct statistics_codes *s, int classes, int width);
void statistics_codes_release(struct statistics_codes *s);

/* Whole numbers of the factor. */
size_t statistics_factor_count(int width);

/* The nearest codes of `prototypes` (classes, width) and `covariance` (the lower triangle, row by row). *made: there are codes for them, which need
 * entries of at most STATISTICS_ENTRY_MAX, some variance, C + r I positive definite, and means of at most so many deviations. A discriminant that
 * shrinks the covariance by a tenth (prototypes.h) can then be computed of what is decoded. Errors: ERR_NOMEM. */
int statistics_encode(struct statistics_codes *s, const float *prototypes, const float *covariance,
                      bool *made);
/* The codes that decode to these very floats. *found: there are such codes, as there are for floats that were decoded, but for those of matrices
 * so close to singular that their own rounding hides it. Errors: ERR_NOMEM. */
int statistics_find(struct statistics_codes *s, const float *prototypes, const float *covariance,
                    bool *found);

/* Finite floats, whatever the codes. Errors: ERR_NOMEM. */
int statistics_decode(const struct statistics_codes *s, float *prototypes, float *covariance);

#endif
