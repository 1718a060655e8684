/*
 * gate.c - see gate.h.
 */
#include "server/jobs/gate.h"

#include <math.h>
#include <stdbool.h>

#define ONE_SIDED_95 1.6449 /* quantile of the normal distribution */

const char *gate_verdict_name(enum gate_verdict v)
{
    switch (v) {
    case GATE_FIRST_STEP:
        return "first_step";
    case GATE_OFF:
        return "off";
    case GATE_HELD_BACK:
        return "held_back";
    case GATE_NOT_MEASURED:
        return "not_measured";
    case GATE_PASSED:
        return "passed";
    }
    return "not_measured";
}

static double accuracy(int64_t correct, int64_t total)
{
    return total > 0 ? (double)correct / (double)total : NAN;
}

/* A proportion with one success and one failure added, and the variance of its estimate. */
static double adjusted(int64_t correct, int64_t total, double *variance)
{
    double n = (double)total + 2, p = ((double)correct + 1) / n;
    *variance = p * (1 - p) / n;
    return p;
}

static bool measured(const struct gate_step *s)
{
    return s->before_total > 0 && s->after_total > 0;
}

struct gate gate_judge(double limit, const struct gate_step *steps, int count)
{
    double drop = 0, shrunk = 0, variance = 0;
    int used = 0, gone = 0;
    for (int i = 0; i < count; i++) {
        const struct gate_step *s = &steps[i];
        double before, after;
        gone += s->gone;
        if (!measured(s))
            continue;
        drop += accuracy(s->before_correct, s->before_total) -
                accuracy(s->after_correct, s->after_total);
        shrunk += adjusted(s->before_correct, s->before_total, &before) -
                  adjusted(s->after_correct, s->after_total, &after);
        variance += before + after;
        used++;
    }
    struct gate g = {.limit = limit, .drop = NAN, .drop_at_least = NAN};
    if (used > 0) {
        g.drop = drop / used;
        g.drop_at_least = shrunk / used - ONE_SIDED_95 * sqrt(variance) / used;
    }
    if (count == 0)
        g.verdict = GATE_FIRST_STEP;
    else if (isnan(limit))
        g.verdict = GATE_OFF;
    else if (g.drop_at_least > limit) /* false for NaN */
        g.verdict = GATE_HELD_BACK;
    else
        g.verdict = used + gone == count ? GATE_PASSED : GATE_NOT_MEASURED;
    return g;
}

/* In ten-thousandths, null for NaN. */
static json_t *share_json(double value)
{
    return isnan(value) ? json_null() : json_real(round(value * 1e4) / 1e4);
}

json_t *gate_json(const struct gate *g, const struct gate_step *steps, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        const struct gate_step *s = &steps[i];
        json_array_append_new(
            list, json_pack("{s:i, s:o, s:o, s:I}", "step", i + 1, "before",
                            share_json(accuracy(s->before_correct, s->before_total)), "after",
                            share_json(accuracy(s->after_correct, s->after_total)),
                            "test_images", (json_int_t)s->after_total));
    }
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "verdict", gate_verdict_name(g->verdict), "limit",
                     share_json(g->limit), "drop", share_json(g->drop), "drop_at_least",
                     share_json(g->drop_at_least), "steps", list);
}
