/*
 * gang.h - the fixed team of threads a training step runs on.
 *
 * A gang of `size` members runs one function at a time, SPMD: every member executes the same
 * code on its own slice of the batch and meets the others at barriers. All members are threads
 * of the gang's own, at a lower priority (`nice_level`, applied per thread on Linux, with a long
 * slice, so that who wakes up need not wait for its end); the caller sleeps meanwhile, and its priority is never touched, because it could not
 * be raised again.
 *
 * Waiting never burns a core for long: a member spins for a few microseconds, then sleeps in
 * the kernel (futex through a condition variable or sem), so a gang that shares its cores with
 * another busy process degrades in proportion.
 *
 * Determinism: gang_slice depends on nothing but (n, member, size), and reductions are done by
 * the callers in member order, so equal gang sizes give bit-identical results.
 */
#ifndef ACCRETED_CORE_NN_GANG_H
#define ACCRETED_CORE_NN_GANG_H

struct gang;

typedef void (*gang_fn)(void *ctx, int member);

/* New gang of `size` >= 1 members, owned by the caller. `nice_level` 0..19, 0 = leave priority
 * alone. Errors: ERR_INVALID, ERR_NOMEM (also when a thread cannot be started). */
int gang_new(struct gang **out, int size, int nice_level);
void gang_free(struct gang *g); /* joins the threads; NULL is fine */
int gang_size(const struct gang *g);

/* Runs fn(ctx, 0..size-1), one call per member, returns when all have. Blocks. One caller at a
 * time; never from inside a gang_fn. Memory written before is visible to all members, memory
 * written by members is visible to the caller afterwards. */
void gang_run(struct gang *g, gang_fn fn, void *ctx);

/* All members of the running gang_fn must call it; returns when all have. A full memory barrier. */
void gang_barrier(struct gang *g);

/* The half-open range [*lo, *hi) of 0..n-1 that `member` of `size` handles: contiguous, sizes
 * differing by at most one. */
void gang_slice(int n, int member, int size, int *lo, int *hi);

#endif
