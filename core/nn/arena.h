/*
 * arena.h - step memory: one block, bump allocation, a high-water mark.
 *
 * The learner sizes an arena once per job and then trains without touching malloc. Allocations
 * are 64-byte aligned. An arena belongs to one thread at a time.
 */
#ifndef ACCRETED_CORE_NN_ARENA_H
#define ACCRETED_CORE_NN_ARENA_H

#include <stddef.h>

struct arena {
    unsigned char *base;
    size_t capacity_bytes, used_bytes, high_water_bytes;
};

/* Reserves `capacity_bytes` (mmap'd, touched lazily, so unused capacity costs no memory).
 * Errors: ERR_NOMEM. */
int arena_init(struct arena *a, size_t capacity_bytes);
void arena_release(struct arena *a); /* zeroed memory is fine */

/* `count` elements of `size_bytes`, 64-byte aligned, contents undefined; NULL when it does not fit or the
 * product overflows. */
void *arena_alloc(struct arena *a, size_t count, size_t size_bytes);

/* Marks and returns to a mark: everything allocated since is given back. */
size_t arena_mark(const struct arena *a);
void arena_reset(struct arena *a, size_t mark);

#endif
