#include "core/learner/calibrate.h"

#include <math.h>
#include <stddef.h>

/* Mean negative log-likelihood of the labels under softmax(scale * scores). */
static double negative_log_likelihood(int n, int classes, const float *scores, const int *labels,
                                      double scale)
{
    double loss = 0;
    for (int i = 0; i < n; i++) {
        const float *row = scores + (size_t)i * classes;
        double top = row[0], total = 0;
        for (int c = 1; c < classes; c++)
            top = row[c] > top ? row[c] : top;
        for (int c = 0; c < classes; c++)
            total += exp(scale * (row[c] - top));
        loss += log(total) - scale * (row[labels[i]] - top);
    }
    return loss / n;
}

float calibrate_scale(int n, int classes, const float *scores, const int *labels)
{
    const double ratio = (sqrt(5) - 1) / 2;
    double lo = log(CALIBRATE_MIN), hi = log(CALIBRATE_MAX);
    double a = hi - ratio * (hi - lo), b = lo + ratio * (hi - lo);
    double fa = negative_log_likelihood(n, classes, scores, labels, exp(a));
    double fb = negative_log_likelihood(n, classes, scores, labels, exp(b));
    while (hi - lo > 1e-3) {
        if (fa < fb) {
            hi = b, b = a, fb = fa;
            a = hi - ratio * (hi - lo);
            fa = negative_log_likelihood(n, classes, scores, labels, exp(a));
        } else {
            lo = a, a = b, fa = fb;
            b = lo + ratio * (hi - lo);
            fb = negative_log_likelihood(n, classes, scores, labels, exp(b));
        }
    }
    return (float)exp((lo + hi) / 2);
}
