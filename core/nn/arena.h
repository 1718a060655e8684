/*
 * arena.h - memory of a workspace: one reserved range, bump allocation, all given back at once.
 *
 * Allocations are 64-byte aligned and lie one after the other. An arena belongs to one thread at a time.
 *
 * A reservation is address space alone, without access, so it costs nothing and no overcommit policy charges for it;
 * memory is made writable, and charged for, as allocations reach it. Only a limit on address space (RLIMIT_AS,
 * systemd's LimitAS) counts it in full.
 */
#ifndef ACCRETED_CORE_NN_ARENA_H
#define ACCRETED_CORE_NN_ARENA_H

#include <stddef.h>

struct arena {
    unsigned char *base;
    size_t capacity_bytes, used_bytes;
    size_t writable_bytes; /* from the base on; at least what is used */
};

/* Reserves `capacity_bytes`, more than will be needed. Errors: ERR_NOMEM. */
int arena_init(struct arena *a, size_t capacity_bytes);
void arena_release(struct arena *a); /* zeroed memory is fine */

/* `count` elements of `size_bytes`, 64-byte aligned, contents undefined. NULL, and the arena as it was, when they do
 * not fit, the product overflows, or the system has not that much memory to give. */
void *arena_alloc(struct arena *a, size_t count, size_t size_bytes);

#endif
