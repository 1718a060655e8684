/*
 * rng.h - counter-based random streams (Philox4x32-10, Salmon et al., SC 2011).
 *
 * A stream is a key (seed, stream id) and a position; any position can be reached at once, so
 * "saving" a stream is saving three integers, and image i of epoch e draws the same numbers
 * whichever thread augments it.
 */
#ifndef ACCRETED_CORE_NN_RNG_H
#define ACCRETED_CORE_NN_RNG_H

#include <stdint.h>

struct rng {
    uint64_t seed, stream, position; /* position counts 32-bit draws */
};

void rng_init(struct rng *r, uint64_t seed, uint64_t stream);
uint32_t rng_u32(struct rng *r);
/* Uniform in 0..bound-1 without modulo bias; bound >= 1. */
uint32_t rng_below(struct rng *r, uint32_t bound);
float rng_uniform(struct rng *r); /* [0, 1), 24 bits */
float rng_normal(struct rng *r);  /* standard normal, Box-Muller; draws two */
/* Fisher-Yates over index[0..n-1]. */
void rng_shuffle(struct rng *r, int *index, int n);

#endif
