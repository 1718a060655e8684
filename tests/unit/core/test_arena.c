/* Arena: alignment, exhaustion and overflow refused without damage, memory taken as it is reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "core/err.h"
#include "core/nn/arena.h"

static void allocations_are_aligned_and_apart(void **state)
{
    struct arena a;
    (void)state;

    assert_int_equal(arena_init(&a, 4096), 0);
    unsigned char *first = arena_alloc(&a, 3, 1), *second = arena_alloc(&a, 5, 4);
    assert_non_null(first);
    assert_non_null(second);
    assert_int_equal((uintptr_t)first % 64, 0);
    assert_int_equal((uintptr_t)second % 64, 0);
    assert_true(second >= first + 3);
    memset(first, 1, 3);
    memset(second, 2, 20);
    assert_int_equal(first[2], 1);
    arena_release(&a);
    assert_null(a.base);
    arena_release(&a);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct arena a;
    (void)state;

    assert_int_equal(arena_init(&a, 256), 0);
    assert_null(arena_alloc(&a, 257, 1));
    assert_null(arena_alloc(&a, SIZE_MAX / 4 + 2, 4)); /* the product wraps to 4 */
    assert_null(arena_alloc(&a, SIZE_MAX, 1));
    assert_int_equal(a.used_bytes, 0);
    assert_non_null(arena_alloc(&a, 193, 1));
    assert_null(arena_alloc(&a, 1, 1)); /* rounds up to 256: nothing left */
    arena_release(&a);
    assert_null(arena_alloc(&a, 1, 1));
    assert_int_equal(arena_init(&a, 256), 0);
    assert_non_null(arena_alloc(&a, 256, 1)); /* to the last byte */
    arena_release(&a);
}

/* "rw" or "--": what /proc says of the page at `address`. */
static void access_at(const void *address, char access[3])
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    assert_non_null(maps);
    strcpy(access, "??");
    while (fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        char may[5];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, may) == 3 &&
            from <= (uintptr_t)address && (uintptr_t)address < to)
            memcpy(access, may, 2);
    }
    fclose(maps);
}

/* What is writable counts where overcommit is off, so a reservation is not, until it is reached. */
static void only_what_is_reached_is_writable(void **state)
{
    const size_t mib = (size_t)1 << 20;
    struct arena a;
    char access[3];
    (void)state;

    assert_int_equal(arena_init(&a, (size_t)1 << 38), 0);
    access_at(a.base, access);
    assert_string_equal(access, "--");
    for (int i = 1; i <= 5; i++) {
        unsigned char *p = arena_alloc(&a, mib, 3);
        memset(p, i, 3 * mib);
        access_at(p + 3 * mib - 1, access);
        assert_string_equal(access, "rw");
        access_at(a.base + a.used_bytes + 2 * mib, access);
        assert_string_equal(access, "--");
    }
    for (int i = 0; i < 5; i++) /* apart, and kept */
        assert_true(a.base[(size_t)i * 3 * mib] == i + 1 &&
                    a.base[(size_t)(i + 1) * 3 * mib - 1] == i + 1);
    arena_release(&a);
}

/* A limit on data that the reservation does not touch: an allocation beyond it is refused, and one may go on later. */
static void memory_the_system_refuses(void **state)
{
    const size_t size = (size_t)64 << 20;
    struct rlimit limit, tight;
    struct arena a;
    (void)state;

    assert_int_equal(getrlimit(RLIMIT_DATA, &limit), 0);
    tight = (struct rlimit){.rlim_cur = 4096, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_DATA, &tight), 0);
    int err = arena_init(&a, (size_t)1 << 38);
    void *refused = err ? NULL : arena_alloc(&a, size, 1);
    assert_int_equal(setrlimit(RLIMIT_DATA, &limit), 0);
    assert_int_equal(err, 0);
    assert_null(refused);
    assert_int_equal(a.used_bytes, 0);
    unsigned char *p = arena_alloc(&a, size, 1);
    assert_non_null(p);
    memset(p, 1, size);
    arena_release(&a);
}

static void a_reservation_beyond_the_address_space_fails(void **state)
{
    struct arena a = {0};
    (void)state;

    assert_int_equal(arena_init(&a, SIZE_MAX / 2), ERR_NOMEM);
    assert_null(a.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_aligned_and_apart),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(only_what_is_reached_is_writable),
        cmocka_unit_test(memory_the_system_refuses),
        cmocka_unit_test(a_reservation_beyond_the_address_space_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
