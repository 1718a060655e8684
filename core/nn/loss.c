/*
 * loss.c - the classification and distillation losses; see loss.h for layouts and formulas.
 *
 * All arithmetic is in double: logits are few, and differences such as sigma(z) - t lose their
 * meaning in float once z is large. Nothing here is ever exponentiated but non-positive numbers,
 * so no finite logit overflows.
 */
#include "core/nn/loss.h"

#include <math.h>
#include <stddef.h>

/* sigma(z) and sigma(-z) = 1 - sigma(z), each to full relative precision. */
static void sigmoid_pair(double z, double *positive, double *negative)
{
    double e = exp(-fabs(z));
    double large = 1.0 / (1.0 + e), small = e / (1.0 + e);
    *positive = z >= 0 ? large : small;
    *negative = z >= 0 ? small : large;
}

/* log(1 + exp(z)) = -log sigma(-z). */
static double softplus(double z)
{
    return (z > 0 ? z : 0) + log1p(exp(-fabs(z)));
}

/* Binary cross-entropy of logit z against target t, with not_t = 1 - t given apart so that
 * targets close to one keep their precision. Adds scale * gradient to *dz. */
static double sigmoid_term(double z, double t, double not_t, double scale, float *dz)
{
    double positive, negative;
    sigmoid_pair(z, &positive, &negative);
    *dz += (float)(scale * (not_t * positive - t * negative));
    return t * softplus(-z) + not_t * softplus(z);
}

double loss_sigmoid_labels(int n, int ld, int lo, int hi, const float *z, const int *labels,
                           float scale, float *dz)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const float *row = z + (size_t)i * (size_t)ld;
        float *drow = dz + (size_t)i * (size_t)ld;
        for (int c = lo; c < hi; c++) {
            double t = labels[i] == c ? 1.0 : 0.0;
            sum += sigmoid_term(row[c], t, 1.0 - t, scale, &drow[c]);
        }
    }
    return sum * scale;
}

double loss_sigmoid_teacher(int n, int ld, int lo, int hi, const float *z, int ld_teacher,
                            const float *teacher, float scale, float *dz)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const float *row = z + (size_t)i * (size_t)ld;
        const float *teacher_row = teacher + (size_t)i * (size_t)ld_teacher;
        float *drow = dz + (size_t)i * (size_t)ld;
        for (int c = lo; c < hi; c++) {
            double t, not_t;
            sigmoid_pair(teacher_row[c], &t, &not_t);
            sum += sigmoid_term(row[c], t, not_t, scale, &drow[c]);
        }
    }
    return sum * scale;
}

/* log sum_c exp(z_c / T) = max + log_sum, kept in two parts: the difference to one z_c is then
 * exact where that z_c dominates. */
struct log_sum {
    double max, log_sum;
};

static struct log_sum log_sum_exp(int lo, int hi, const float *z, double temperature)
{
    struct log_sum r = {-INFINITY, 0};
    for (int c = lo; c < hi; c++)
        r.max = fmax(r.max, z[c] / temperature);
    double sum = 0;
    for (int c = lo; c < hi; c++)
        sum += exp(z[c] / temperature - r.max);
    r.log_sum = log(sum);
    return r;
}

/* -log softmax(z / T)_c */
static double negative_log(struct log_sum s, float z, double temperature)
{
    return (s.max - z / temperature) + s.log_sum;
}

double loss_softmax_labels(int n, int ld, int lo, int hi, const float *z, const int *labels,
                           float scale, float *dz)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const float *row = z + (size_t)i * (size_t)ld;
        float *drow = dz + (size_t)i * (size_t)ld;
        struct log_sum s = log_sum_exp(lo, hi, row, 1.0);
        for (int c = lo; c < hi; c++) {
            double t = labels[i] == c ? 1.0 : 0.0;
            drow[c] += (float)(scale * (exp(-negative_log(s, row[c], 1.0)) - t));
        }
        sum += negative_log(s, row[labels[i]], 1.0);
    }
    return sum * scale;
}

double loss_softmax_teacher(int n, int ld, int lo, int hi, const float *z, int ld_teacher,
                            const float *teacher, float temperature, float scale, float *dz)
{
    double sum = 0, temp = temperature;
    for (int i = 0; i < n; i++) {
        const float *row = z + (size_t)i * (size_t)ld;
        const float *teacher_row = teacher + (size_t)i * (size_t)ld_teacher;
        float *drow = dz + (size_t)i * (size_t)ld;
        struct log_sum s = log_sum_exp(lo, hi, row, temp);
        struct log_sum st = log_sum_exp(lo, hi, teacher_row, temp);
        for (int c = lo; c < hi; c++) {
            double cost = negative_log(s, row[c], temp);
            double t = exp(-negative_log(st, teacher_row[c], temp));
            /* T^2 from the definition, 1/T from the chain rule. */
            drow[c] += (float)(scale * temp * (exp(-cost) - t));
            sum += t * cost;
        }
    }
    return sum * temp * temp * scale;
}

double loss_cosine(int n, int width, const float *features, const float *target, float scale,
                   float *dfeatures)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * (size_t)width;
        double ff = 0, tt = 0, ft = 0;
        for (size_t k = at; k < at + (size_t)width; k++) {
            ff += (double)features[k] * features[k];
            tt += (double)target[k] * target[k];
            ft += (double)features[k] * target[k];
        }
        double norm = sqrt(ff * tt);
        if (norm == 0)
            continue;
        for (size_t k = at; k < at + (size_t)width; k++)
            dfeatures[k] += (float)(scale * (ft / ff * features[k] - target[k]) / norm);
        sum += 1 - ft / norm;
    }
    return sum * scale;
}
