/*
 * span.c - see span.h.
 */
#include "server/span.h"

#include <sys/mman.h>
#include <unistd.h>

struct span span_of_memory(const void *data, size_t size_bytes)
{
    return (struct span){.data = data, .size_bytes = size_bytes};
}

struct span span_part(const struct span *whole, const void *data, size_t size_bytes)
{
    return (struct span){.data = data, .size_bytes = size_bytes, .mapped = whole->mapped, .stop = whole->stop};
}

bool span_stopped(const struct span *s)
{
    return s->stop && atomic_load(s->stop);
}

void span_passed(struct span *s, const uint8_t *at)
{
    size_t upto = (size_t)(at - s->data);
    if (!s->mapped || upto < s->passed_bytes + SPAN_STEP_BYTES)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)(s->data + s->passed_bytes) & ~(page - 1);
    uintptr_t to = (uintptr_t)at & ~(page - 1);
    /* A failure costs memory alone. */
    madvise((void *)from, to - from, MADV_DONTNEED);
    s->passed_bytes = upto;
}
