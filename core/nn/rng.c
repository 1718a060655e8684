/*
 * rng.c - see rng.h. The Philox key is the seed; its 128-bit counter is the stream id (low half)
 * and the number of the block of four draws (high half).
 */
#include "core/nn/rng.h"

#include <math.h>

enum { ROUNDS = 10, DRAWS_PER_BLOCK = 4 };

static void philox_block(uint64_t key, uint64_t stream, uint64_t block, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)stream, c1 = (uint32_t)(stream >> 32);
    uint32_t c2 = (uint32_t)block, c3 = (uint32_t)(block >> 32);

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t p0 = UINT64_C(0xD2511F53) * c0, p1 = UINT64_C(0xCD9E8D57) * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void rng_init(struct rng *r, uint64_t seed, uint64_t stream)
{
    *r = (struct rng){.seed = seed, .stream = stream};
}

/* A block for every draw: four times the arithmetic, but no state beyond the position. */
uint32_t rng_u32(struct rng *r)
{
    uint32_t block[DRAWS_PER_BLOCK];

    philox_block(r->seed, r->stream, r->position / DRAWS_PER_BLOCK, block);
    return block[r->position++ % DRAWS_PER_BLOCK];
}

/* Lemire, "Fast random integer generation in an interval", ACM TOMACS 2019. */
uint32_t rng_below(struct rng *r, uint32_t bound)
{
    uint64_t product = (uint64_t)rng_u32(r) * bound;
    uint32_t reject_below = (uint32_t)-bound % bound; /* 2^32 mod bound */

    while ((uint32_t)product < reject_below)
        product = (uint64_t)rng_u32(r) * bound;
    return (uint32_t)(product >> 32);
}

float rng_uniform(struct rng *r)
{
    return (float)(rng_u32(r) >> 8) * 0x1p-24f;
}

float rng_normal(struct rng *r)
{
    float radius = sqrtf(-2.0f * logf(1.0f - rng_uniform(r))); /* 1 - u: never the log of 0 */
    float angle = 6.28318530717958647692f * rng_uniform(r);

    return radius * cosf(angle);
}

void rng_shuffle(struct rng *r, int *index, int n)
{
    for (int i = n - 1; i > 0; i--) {
        int j = (int)rng_below(r, (uint32_t)i + 1);
        int kept = index[i];
        index[i] = index[j];
        index[j] = kept;
    }
}
