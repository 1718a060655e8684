/*
 * measures.h - the measures of incremental learning, from counts. Pure functions.
 *
 * A[t][i] = accuracy on the classes of step i after step t, over all classes seen then; steps count
 * from 0 here. NaN says "not measured": a step without test images has no accuracy, and no mean
 * over it has a value either. Names as in the literature (see the docs of /api/v1/history).
 */
#ifndef ACCRETED_SERVER_API_MEASURES_H
#define ACCRETED_SERVER_API_MEASURES_H

#include <stdint.h>

struct measures {
    int steps;                  /* T */
    double *matrix;             /* owned; (T,T), A[t][i] at t*T+i; NaN above the diagonal */
    double *accuracy;           /* owned; (T), acc_t over all test images of the classes seen */
    double *forgetting;         /* owned; (T-1): max over i<=t<T-1 of A[t][i], minus A[T-1][i] */
    double average_incremental; /* mean of acc_t over all steps, the first one too */
    double last;                /* acc of the last step */
    double forgetting_mean;     /* over i < T-1 */
    double backward_transfer;   /* mean over i < T-1 of A[T-1][i] - A[i][i] */
};

/* total and correct: (T,T) counts of test images of step i's classes after step t, at t*T+i;
 * entries above the diagonal are ignored. Errors: ERR_INVALID (steps < 0), ERR_NOMEM. */
int measures_compute(struct measures *out, int steps, const int64_t *total,
                     const int64_t *correct);
void measures_release(struct measures *m);

#endif
