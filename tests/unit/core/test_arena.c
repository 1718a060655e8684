/* Arena: alignment, exhaustion and overflow refused without damage, marks, the high-water mark. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

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
    arena_reset(&a, 0);
    assert_non_null(arena_alloc(&a, 256, 1));
    arena_release(&a);
    assert_null(arena_alloc(&a, 1, 1));
}

static void a_mark_gives_back_and_the_high_water_stays(void **state)
{
    struct arena a;
    (void)state;

    assert_int_equal(arena_init(&a, 4096), 0);
    assert_non_null(arena_alloc(&a, 64, 1));
    size_t mark = arena_mark(&a);
    void *step = arena_alloc(&a, 1024, 1);
    arena_reset(&a, mark);
    assert_int_equal(a.used_bytes, 64);
    assert_int_equal(a.high_water_bytes, 64 + 1024);
    assert_ptr_equal(arena_alloc(&a, 10, 1), step);
    assert_int_equal(a.high_water_bytes, 64 + 1024);
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
        cmocka_unit_test(a_mark_gives_back_and_the_high_water_stays),
        cmocka_unit_test(a_reservation_beyond_the_address_space_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
