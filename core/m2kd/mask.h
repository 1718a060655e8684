/*
 * mask.h - which weights a snapshot keeps: magnitude pruning per layer.
 */
#ifndef ACCRETED_CORE_M2KD_MASK_H
#define ACCRETED_CORE_M2KD_MASK_H

#include <stdint.h>

#include "core/model/resnet.h"

/* One byte a float of the parameter block (net->params.count): 1 = kept. Only
 * PARAM_CONV_WEIGHT entries are pruned; in each, the ceil(keep * count) weights of largest
 * magnitude stay (ties: lower index first), everything else of the block is kept. 0 < keep <= 1;
 * the product is taken in float.
 * The first convolution is never pruned: it has few weights and all features hang on it.
 * Errors: ERR_INVALID, ERR_NOMEM. */
int mask_by_magnitude(const struct resnet *net, const float *params, float keep, uint8_t *mask);

/* params[i] = 0 where mask[i] == 0, for i in [lo, hi). */
void mask_apply(const uint8_t *mask, int64_t lo, int64_t hi, float *params);

#endif
