/*
 * sgd.c - the optimiser's update; see sgd.h. Element by element, so any split of the block over
 * threads gives the same bits.
 */
#include "core/model/sgd.h"

#include <math.h>
#include <stdbool.h>

float sgd_rate(const struct sgd_options *o, int64_t step, int64_t total)
{
    static const double pi = 3.14159265358979323846;
    switch (o->schedule) {
    case SGD_COSINE:
        return (float)(o->lr * 0.5 * (1.0 + cos(pi * (double)step / (double)total)));
    case SGD_STEP:
        if (step * 10 >= total * 9)
            return o->lr / 25.0f;
        if (step * 10 >= total * 7)
            return o->lr / 5.0f;
        return o->lr;
    }
    return o->lr;
}

static bool decays(enum param_kind kind)
{
    return kind == PARAM_CONV_WEIGHT || kind == PARAM_HEAD_WEIGHT;
}

static void update_range(float momentum, float decay, float rate, size_t lo, size_t hi,
                         const float *gradient, const uint8_t *mask, float *velocity,
                         float *params)
{
    for (size_t i = lo; i < hi; i++) {
        if (mask && mask[i] != 1)
            continue;
        velocity[i] = momentum * velocity[i] + (gradient[i] + decay * params[i]);
        params[i] -= rate * velocity[i];
    }
}

void sgd_update(const struct param_table *t, const struct sgd_options *o, float rate, size_t lo,
                size_t hi, const float *gradient, const uint8_t *mask, float *velocity,
                float *params)
{
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        size_t from = entry->offset > lo ? entry->offset : lo;
        size_t end = entry->offset + entry->count;
        size_t to = end < hi ? end : hi;
        if (from < to)
            update_range(o->momentum, decays(entry->kind) ? o->weight_decay : 0.0f, rate, from, to,
                         gradient, mask, velocity, params);
    }
}
