/*
 * measures.c - see measures.h. NaN carries "not measured" through every sum by itself.
 */
#include "server/api/measures.h"

#include <math.h>
#include <stdlib.h>

#include "core/err.h"

static double share(int64_t correct, int64_t total)
{
    return total > 0 ? (double)correct / (double)total : NAN;
}

static double mean(const double *values, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += values[i];
    return count > 0 ? sum / count : NAN;
}

/* max over the earlier steps that measured i; a test set may have come later than its classes. */
static double best_before(const struct measures *m, int i)
{
    double best = NAN;
    for (int t = i; t < m->steps - 1; t++)
        best = fmax(best, m->matrix[t * m->steps + i]); /* fmax ignores a NaN beside a number */
    return best;
}

static void fill(struct measures *m, const int64_t *total, const int64_t *correct)
{
    int n = m->steps;
    double transfer = 0;
    for (int t = 0; t < n; t++) {
        int64_t all = 0, right = 0;
        for (int i = 0; i < n; i++) {
            int at = t * n + i;
            m->matrix[at] = i <= t ? share(correct[at], total[at]) : NAN;
            all += i <= t ? total[at] : 0;
            right += i <= t ? correct[at] : 0;
        }
        m->accuracy[t] = share(right, all);
    }
    for (int i = 0; i < n - 1; i++) {
        double now = m->matrix[(n - 1) * n + i];
        m->forgetting[i] = best_before(m, i) - now;
        transfer += now - m->matrix[i * n + i];
    }
    m->average_incremental = mean(m->accuracy, n);
    m->last = n > 0 ? m->accuracy[n - 1] : NAN;
    m->forgetting_mean = mean(m->forgetting, n - 1);
    m->backward_transfer = n > 1 ? transfer / (n - 1) : NAN;
}

int measures_compute(struct measures *out, int steps, const int64_t *total, const int64_t *correct)
{
    struct measures m = {.steps = steps};
    size_t n = (size_t)steps;
    if (steps < 0)
        return ERR_INVALID;
    m.matrix = calloc(n * n + 1, sizeof *m.matrix);
    m.accuracy = calloc(n + 1, sizeof *m.accuracy);
    m.forgetting = calloc(n + 1, sizeof *m.forgetting);
    if (!m.matrix || !m.accuracy || !m.forgetting) {
        measures_release(&m);
        return ERR_NOMEM;
    }
    fill(&m, total, correct);
    *out = m;
    return 0;
}

void measures_release(struct measures *m)
{
    free(m->matrix);
    free(m->accuracy);
    free(m->forgetting);
    *m = (struct measures){0};
}
