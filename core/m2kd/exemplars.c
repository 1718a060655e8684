#include "core/m2kd/exemplars.h"

#include <math.h>
#include <stdlib.h>

#include "core/command.h"
#include "core/err.h"
#include "core/nn/rng.h"

enum { STREAM_EXEMPLARS = 4 };

/* Squared distance of the mean of k rows, of which all but `row` sum up to `sum`, from `mean`. */
static double distance(int feature_count, const double *mean, const double *sum, const float *row,
                       int k)
{
    double squares = 0;
    for (int f = 0; f < feature_count; f++) {
        double d = mean[f] - (sum[f] + (double)row[f]) / k;
        squares += d * d;
    }
    return squares;
}

/* Moves the next `keep` of rows[0..count-1] to the front, in order. sums: 2 F doubles, zeroed.
 * 0, or ERR_CANCELLED. */
static int herd(int count, int keep, int feature_count, const float *features,
                const atomic_int *command, int *rows, double *sums)
{
    double *mean = sums, *sum = sums + feature_count;
    size_t width = (size_t)feature_count;
    for (int i = 0; i < count; i++)
        for (size_t f = 0; f < width; f++)
            mean[f] += (double)features[(size_t)rows[i] * width + f] / count;
    for (int k = 0; k < keep; k++) {
        int best = k, err = command_poll(command);
        double nearest = INFINITY;
        if (err)
            return err;
        for (int i = k; i < count; i++) {
            double d = distance(feature_count, mean, sum, features + (size_t)rows[i] * width, k + 1);
            if (d < nearest) {
                nearest = d;
                best = i;
            }
        }
        int row = rows[best];
        for (int i = best; i > k; i--) /* the others stay in their order */
            rows[i] = rows[i - 1];
        rows[k] = row;
        for (size_t f = 0; f < width; f++)
            sum[f] += (double)features[(size_t)row * width + f];
    }
    return 0;
}

int exemplars_pick(enum exemplars_select how, int n, int feature_count, const float *features,
                   const int *labels, int class, int keep, uint64_t seed,
                   const atomic_int *command, int *picked, int *count)
{
    int *rows = malloc(((size_t)n + 1) * sizeof *rows), found = 0;
    double *sums = calloc(2 * (size_t)feature_count, sizeof *sums);
    struct rng r;
    int err = rows && sums ? 0 : ERR_NOMEM;
    if (err)
        goto out;
    for (int i = 0; i < n; i++)
        if (labels[i] == class)
            rows[found++] = i;
    keep = keep < found ? keep : found;
    switch (how) {
    case EXEMPLARS_HERDING:
        err = herd(found, keep, feature_count, features, command, rows, sums);
        break;
    case EXEMPLARS_RANDOM:
        rng_init(&r, seed, (uint64_t)STREAM_EXEMPLARS << 56 | (uint64_t)class);
        rng_shuffle(&r, rows, found);
        break;
    }
    if (err)
        goto out;
    for (int i = 0; i < keep; i++)
        picked[i] = rows[i];
    *count = keep;
out:
    free(rows);
    free(sums);
    return err;
}
