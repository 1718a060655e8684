/*
 * snapshot_coding.h - what the arithmetic coder expects of a snapshot's numbers: the contexts in which it learns how often what occurs.
 *
 * Every function walks over its numbers once and codes them, or decodes them in place, as the coder does (arithmetic.h).
 * Layers' shapes, what is owned already, and what was coded before are known to both sides.
 */
#ifndef ACCRETED_CORE_M2KD_SNAPSHOT_CODING_H
#define ACCRETED_CORE_M2KD_SNAPSHOT_CODING_H

#include <stdint.h>

#include "core/m2kd/arithmetic.h"
#include "core/m2kd/statistics.h"
#include "core/model/params.h"

/* `bits`: one each of the convolution weights that `mask` (mask.h, one byte each of all parameters) does not call owned, least significant
 * first, which decoding finds zero. Errors: ERR_NOMEM. */
int coding_mask(struct arithmetic *a, const struct param_table *table, const uint8_t *mask,
                uint8_t *bits);
/* `codes`: one each of the ones among these bits. Errors: ERR_NOMEM, ERR_CORRUPT (decoded, a code beyond INT8_MAX). */
int coding_weights(struct arithmetic *a, const struct param_table *table, const uint8_t *mask,
                   const uint8_t *bits, int8_t *codes);
/* Exponent, pivots and factor. Errors: ERR_NOMEM, ERR_CORRUPT (decoded, out of their ranges). */
int coding_covariance(struct arithmetic *a, struct statistics_codes *s);
/* Errors: ERR_CORRUPT (decoded, a code beyond STATISTICS_MEAN_MAX). */
int coding_means(struct arithmetic *a, struct statistics_codes *s);

#endif
