/*
 * exemplars.h - which images of a class are worth keeping.
 *
 * Pure functions on the calling thread.
 */
#ifndef ACCRETED_CORE_M2KD_EXEMPLARS_H
#define ACCRETED_CORE_M2KD_EXEMPLARS_H

#include <stdatomic.h>
#include <stdint.h>

enum exemplars_select {
    EXEMPLARS_HERDING, /* the mean of the first k is near the mean of all, for every k (iCaRL, algorithm 4) */
    EXEMPLARS_RANDOM,
};

/* Indices of `keep` of the rows with labels[i] == class, the most worth keeping first, into `picked`; fewer when there
 * are fewer. features (n, F) are unit vectors. Herding takes the next row for which the mean of those taken comes nearest to
 * the class mean; of equal ones the first. Random draws depend on seed and class alone. *count is set to how many there are.
 * Errors: ERR_NOMEM, ERR_CANCELLED (`command`, which may be NULL, is set: core/command.h; herding
 * polls it for each image it takes). */
int exemplars_pick(enum exemplars_select how, int n, int feature_count, const float *features,
                   const int *labels, int class, int keep, uint64_t seed,
                   const atomic_int *command, int *picked, int *count);

#endif
