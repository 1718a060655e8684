/*
 * gate.h - the publication gate: has a new version lost too much of what the one before it knew?
 *
 * drop = mean over the earlier steps i of A[t-1][i] - A[t][i], the accuracy on step i's test images
 * before and after this step. Accuracy falls at every step merely because there are more classes to
 * choose from, so the limit leaves room for that. With few test images a drop may be chance: a
 * version is held back only where the drop's lower 95 % confidence bound (one-sided; Agresti and
 * Caffo's interval for the difference of two proportions, 2000) is above the limit.
 *
 * Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_JOBS_GATE_H
#define ACCRETED_SERVER_JOBS_GATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum gate_verdict {
    GATE_FIRST_STEP,   /* "first_step": nothing came before */
    GATE_OFF,          /* "off": no limit */
    GATE_HELD_BACK,    /* "held_back": surely above the limit */
    GATE_NOT_MEASURED, /* "not_measured": not above it, but some step has no test images */
    GATE_PASSED,       /* "passed" */
};

struct gate_step { /* test images of an earlier step's classes, and how many were right */
    int64_t before_total, before_correct; /* under the version before */
    int64_t after_total, after_correct;
    bool gone; /* all of its classes are retired: nothing of it can be lost */
};

struct gate {
    enum gate_verdict verdict;
    double limit;         /* NaN: none */
    double drop;          /* over the steps that were measured; NaN: none was */
    double drop_at_least; /* its lower bound */
};

/* Static storage. */
const char *gate_verdict_name(enum gate_verdict v);

/* `steps` are the `count` earlier ones; `limit` may be NaN. */
struct gate gate_judge(double limit, const struct gate_step *steps, int count);

/* With a row for each step. New reference, NULL when memory ran out. */
json_t *gate_json(const struct gate *g, const struct gate_step *steps, int count);

#endif
