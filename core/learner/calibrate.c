#include "core/learner/calibrate.h"

#include <math.h>
#include <stddef.h>

#include "core/command.h"
#include "core/model/frozen.h"

/* The mean score of the classes that are neither the label nor retired; of none, the label's own. */
static double mean_of_others(int classes, const float *row, int label)
{
    double sum = 0;
    int count = 0;
    for (int c = 0; c < classes; c++)
        if (c != label && row[c] > FROZEN_RETIRED_SCORE) {
            sum += row[c];
            count++;
        }
    return count ? sum / count : row[label];
}

/* *out = mean cross-entropy of softmax(scale * scores) from the labels, less 1/(n + 2) that the others share.
 * 0, or ERR_CANCELLED. */
static int cross_entropy(int n, int classes, const float *scores, const int *labels,
                         const atomic_int *command, double scale, double *out)
{
    double loss = 0, rest = 1.0 / (n + 2.0);
    for (int i = 0; i < n; i++) {
        const float *row = scores + (size_t)i * classes;
        double top = row[0], total = 0;
        int err = command_poll(command);
        if (err)
            return err;
        for (int c = 1; c < classes; c++)
            top = row[c] > top ? row[c] : top;
        for (int c = 0; c < classes; c++)
            total += exp(scale * (row[c] - top));
        double own = row[labels[i]], others = mean_of_others(classes, row, labels[i]);
        loss += log(total) - scale * (own + rest * (others - own) - top);
    }
    *out = loss / n;
    return 0;
}

int calibrate_scale(int n, int classes, const float *scores, const int *labels,
                    const atomic_int *command, float *scale)
{
    const double ratio = (sqrt(5) - 1) / 2;
    double lo = log(CALIBRATE_MIN), hi = log(CALIBRATE_MAX);
    double a = hi - ratio * (hi - lo), b = lo + ratio * (hi - lo);
    double fa, fb;
    int err = cross_entropy(n, classes, scores, labels, command, exp(a), &fa);
    if (!err)
        err = cross_entropy(n, classes, scores, labels, command, exp(b), &fb);
    while (!err && hi - lo > 1e-3) {
        if (fa < fb) {
            hi = b, b = a, fb = fa;
            a = hi - ratio * (hi - lo);
            err = cross_entropy(n, classes, scores, labels, command, exp(a), &fa);
        } else {
            lo = a, a = b, fa = fb;
            b = lo + ratio * (hi - lo);
            err = cross_entropy(n, classes, scores, labels, command, exp(b), &fb);
        }
    }
    if (!err)
        *scale = (float)exp((lo + hi) / 2);
    return err;
}
