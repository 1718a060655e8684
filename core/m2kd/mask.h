/*
 * mask.h - which weights a snapshot keeps: magnitude pruning per layer.
 *
 * A mask has one byte a float of the parameter block (net->params.count). Where snapshots share their weights
 * (snapshot.h), those that earlier steps own are no longer up for choice.
 */
#ifndef ACCRETED_CORE_M2KD_MASK_H
#define ACCRETED_CORE_M2KD_MASK_H

#include <stddef.h>
#include <stdint.h>

#include "core/model/resnet.h"

enum {
    MASK_PRUNED = 0,
    MASK_KEPT = 1,  /* this step's: the only ones that are trained */
    MASK_OWNED = 2, /* an earlier step's */
};

/* Only PARAM_CONV_WEIGHT entries are pruned; in each, of the count weights that `owned` (a mask; NULL: none) does not
 * call MASK_OWNED, the ceil(keep * count) of largest magnitude stay (ties: lower index first), everything else of the
 * block is kept. 0 < keep <= 1; the product is taken in float.
 * The first convolution is never pruned: it has few weights and all features hang on it.
 * Errors: ERR_INVALID, ERR_NOMEM. */
int mask_by_magnitude(const struct resnet *net, const float *params, const uint8_t *owned,
                      float keep, uint8_t *mask);

/* params[i] = 0 where mask[i] == MASK_PRUNED, for i < count. */
void mask_apply(const uint8_t *mask, size_t count, float *params);

#endif
