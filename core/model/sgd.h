/*
 * sgd.h - stochastic gradient descent with momentum, weight decay and a learning-rate schedule.
 */
#ifndef ACCRETED_CORE_MODEL_SGD_H
#define ACCRETED_CORE_MODEL_SGD_H

#include <stddef.h>
#include <stdint.h>

#include "core/model/params.h"

enum sgd_schedule {
    SGD_COSINE, /* half a cosine from lr to 0 over all steps */
    SGD_STEP,   /* lr, lr/5 after 70 %, lr/25 after 90 % of all steps (iCaRL's 49 and 63 of 70) */
};

struct sgd_options {
    float lr, momentum, weight_decay;
    enum sgd_schedule schedule;
};

/* Learning rate for `step` (0-based) of `total` steps. */
float sgd_rate(const struct sgd_options *o, int64_t step, int64_t total);

/* For floats [lo, hi) of the trained part of the block:
 *   v = momentum v + (g + decay w);  w -= rate v
 * decay applies to convolution and head weights only, not to batch norm and biases. Where
 * mask (may be NULL) is not 1, w and v are left alone. */
void sgd_update(const struct param_table *t, const struct sgd_options *o, float rate, size_t lo,
                size_t hi, const float *gradient, const uint8_t *mask, float *velocity,
                float *params);

#endif
