/*
 * curve.c - see curve.h.
 */
#include "server/api/curve.h"

#include <math.h>
#include <stdint.h>

/* What is not measured counts as nothing. */
static double loss(const struct learner_epoch *e)
{
    double parts[] = {e->loss_class, e->loss_mmd, e->loss_ad};
    double sum = 0.0;
    for (int i = 0; i < 3; i++)
        sum += isfinite(parts[i]) ? parts[i] : 0.0;
    return sum;
}

/* Copies the extremes of [from, end) to `out`, in their order; returns how many. */
static int keep_extremes(const struct learner_epoch *epochs, int from, int end,
                         struct learner_epoch *out)
{
    int low = from, high = from;
    for (int i = from + 1; i < end; i++) {
        if (loss(&epochs[i]) < loss(&epochs[low]))
            low = i;
        if (loss(&epochs[i]) > loss(&epochs[high]))
            high = i;
    }
    struct learner_epoch first = epochs[low < high ? low : high];
    struct learner_epoch second = epochs[low < high ? high : low];
    out[0] = first;
    if (low == high)
        return 1;
    out[1] = second;
    return 2;
}

int curve_thin(struct learner_epoch *epochs, int count, int points)
{
    if (count <= points)
        return count;
    int stretches = (points - 2) / 2; /* fewer than half the epochs: what is written lies behind */
    int inner = count - 2, kept = 1;
    struct learner_epoch last = epochs[count - 1];
    for (int i = 0; i < stretches; i++) {
        int from = 1 + (int)((int64_t)inner * i / stretches);
        int end = 1 + (int)((int64_t)inner * (i + 1) / stretches);
        kept += keep_extremes(epochs, from, end, &epochs[kept]);
    }
    epochs[kept++] = last;
    return kept;
}
