/*
 * mask.c - magnitude pruning per layer; see mask.h.
 */
#include "core/m2kd/mask.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

/* |x| as an integer that orders like it. */
static uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

static int compare_descending(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x < y) - (x > y);
}

/* In float, so that a share such as 0.3 of 10 is 3 and not, by a hair, 4. */
static size_t share_of(float keep, size_t count)
{
    size_t n = (size_t)ceilf(keep * (float)count);
    return n < 1 ? 1 : n > count ? count : n;
}

/* Of the `count` weights those that nobody owns, `sorted` being scratch of `count`. */
static void mask_entry(const float *weights, size_t count, float keep, uint32_t *sorted,
                       uint8_t *mask)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        if (mask[i] != MASK_OWNED)
            sorted[left++] = magnitude(weights[i]);
    if (left == 0)
        return;
    size_t keep_count = share_of(keep, left);
    qsort(sorted, left, sizeof *sorted, compare_descending);
    uint32_t threshold = sorted[keep_count - 1];

    size_t ties = 0; /* weights at the threshold that still have room */
    while (ties < keep_count && sorted[keep_count - 1 - ties] == threshold)
        ties++;
    for (size_t i = 0; i < count; i++) {
        uint32_t m = magnitude(weights[i]);
        if (mask[i] == MASK_OWNED)
            continue;
        mask[i] = m > threshold || (m == threshold && ties > 0) ? MASK_KEPT : MASK_PRUNED;
        if (m == threshold && ties > 0)
            ties--;
    }
}

static size_t largest_convolution(const struct param_table *t)
{
    size_t largest = 0;
    for (int e = 0; e < t->entry_count; e++)
        if (t->entries[e].kind == PARAM_CONV_WEIGHT && t->entries[e].count > largest)
            largest = t->entries[e].count;
    return largest;
}

int mask_by_magnitude(const struct resnet *net, const float *params, const uint8_t *owned,
                      float keep, uint8_t *mask)
{
    const struct param_table *t = &net->params;
    if (!(keep > 0.0f && keep <= 1.0f))
        return ERR_INVALID;
    uint32_t *sorted = malloc(largest_convolution(t) * sizeof *sorted);
    if (!sorted)
        return ERR_NOMEM;
    for (size_t i = 0; i < t->count; i++)
        mask[i] = owned && owned[i] == MASK_OWNED ? MASK_OWNED : MASK_KEPT;
    for (int e = 0; e < t->entry_count; e++) {
        const struct param_entry *entry = &t->entries[e];
        if (entry->kind != PARAM_CONV_WEIGHT || e == net->layers[0].weight)
            continue;
        mask_entry(params + entry->offset, entry->count, keep, sorted, mask + entry->offset);
    }
    free(sorted);
    return 0;
}

void mask_apply(const uint8_t *mask, size_t count, float *params)
{
    for (size_t i = 0; i < count; i++)
        if (mask[i] == MASK_PRUNED)
            params[i] = 0.0f;
}
