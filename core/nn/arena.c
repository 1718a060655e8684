/* arena.c - see arena.h. */
#include "core/nn/arena.h"

#include <stdint.h>
#include <sys/mman.h>

#include "core/err.h"

enum {
    ALIGN_BYTES = 64,     /* a cache line, and the widest vector */
    STEP_BYTES = 2 << 20, /* made writable together: a huge page */
};

int arena_init(struct arena *a, size_t capacity_bytes)
{
    void *base = NULL;

    if (capacity_bytes > 0) {
        base = mmap(NULL, capacity_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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

/* The first `bytes` writable, up to where a huge page ends: one is only given whole. */
static int make_writable(struct arena *a, size_t bytes)
{
    size_t beyond, end;

    if (bytes <= a->writable_bytes)
        return 0;
    beyond = ((uintptr_t)a->base + bytes) % STEP_BYTES;
    end = beyond ? bytes + (STEP_BYTES - beyond) : bytes;
    if (end > a->capacity_bytes)
        end = a->capacity_bytes;
    /* In whole pages, as the end is a page's or that of the reservation, which mprotect rounds up itself. */
    if (mprotect(a->base + a->writable_bytes, end - a->writable_bytes, PROT_READ | PROT_WRITE))
        return ERR_NOMEM;
    a->writable_bytes = end;
    return 0;
}

void *arena_alloc(struct arena *a, size_t count, size_t size_bytes)
{
    size_t bytes, start;

    if (__builtin_mul_overflow(count, size_bytes, &bytes) ||
        __builtin_add_overflow(a->used_bytes, (size_t)ALIGN_BYTES - 1, &start))
        return NULL;
    start &= ~((size_t)ALIGN_BYTES - 1);
    if (!a->base || start > a->capacity_bytes || bytes > a->capacity_bytes - start ||
        make_writable(a, start + bytes))
        return NULL;
    a->used_bytes = start + bytes;
    return a->base + start;
}
