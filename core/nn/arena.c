/* arena.c - see arena.h. */
#include "core/nn/arena.h"

#include <sys/mman.h>

#include "core/err.h"

enum { ALIGN_BYTES = 64 }; /* a cache line, and the widest vector */

int arena_init(struct arena *a, size_t capacity_bytes)
{
    void *base = NULL;

    if (capacity_bytes > 0) {
        base = mmap(NULL, capacity_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
            return ERR_NOMEM;
        /* Activations are read in long runs, and a miss of the TLB costs most in a virtual machine.
         * Only a wish: where there are no huge pages, all works as well. */
        madvise(base, capacity_bytes, MADV_HUGEPAGE);
    }
    *a = (struct arena){.base = base, .capacity_bytes = capacity_bytes};
    return 0;
}

void arena_release(struct arena *a)
{
    if (a->base)
        munmap(a->base, a->capacity_bytes);
    *a = (struct arena){0};
}

void *arena_alloc(struct arena *a, size_t count, size_t size_bytes)
{
    size_t bytes, start;

    if (__builtin_mul_overflow(count, size_bytes, &bytes) ||
        __builtin_add_overflow(a->used_bytes, (size_t)ALIGN_BYTES - 1, &start))
        return NULL;
    start &= ~((size_t)ALIGN_BYTES - 1);
    if (!a->base || start > a->capacity_bytes || bytes > a->capacity_bytes - start)
        return NULL;
    a->used_bytes = start + bytes;
    if (a->used_bytes > a->high_water_bytes)
        a->high_water_bytes = a->used_bytes;
    return a->base + start;
}

size_t arena_mark(const struct arena *a)
{
    return a->used_bytes;
}

void arena_reset(struct arena *a, size_t mark)
{
    a->used_bytes = mark;
}
