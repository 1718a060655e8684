/*
 * clones.h - one plain loop, compiled for several instruction sets, chosen when the program loads.
 *
 * For element-wise loops over channels, where the compiler vectorises well by itself. They give the same bits on every
 * instruction set: no reduction crosses lanes and contraction is off. Sanitizers cannot run before
 * their own start-up, which is when the choice is made, so there the baseline is used.
 */
#ifndef ACCRETED_CORE_NN_CLONES_H
#define ACCRETED_CORE_NN_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define NN_CLONES
#endif

#endif
