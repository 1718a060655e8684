/*
 * Gang: slices cover a range once, every member runs once, barriers order what members write,
 * priorities are lowered for threads other than the caller's, a thread that cannot be had fails
 * the whole gang.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/err.h"
#include "core/nn/gang.h"

enum { SIZE_MAX_TESTED = 4, ROUNDS = 3000 };

static void slices_cover_the_range_evenly(void **state)
{
    (void)state;
    for (int n = 0; n < 40; n++)
        for (int size = 1; size <= 9; size++) {
            int next = 0;
            for (int m = 0; m < size; m++) {
                int lo, hi;
                gang_slice(n, m, size, &lo, &hi);
                assert_int_equal(lo, next);
                assert_in_range(hi - lo, n / size, (n + size - 1) / size);
                next = hi;
            }
            assert_int_equal(next, n);
        }
    int lo, hi;
    gang_slice(2000000000, 6, 7, &lo, &hi);
    assert_int_equal(hi, 2000000000);
}

/* A wave: in every round each member reads all cells of the last round and writes its own. Plain
 * integers on purpose: only the barrier orders them (the thread sanitizer checks that too). */
struct wave {
    struct gang *gang;
    uint32_t cells[2][SIZE_MAX_TESTED];
};

static void wave_run(void *ctx, int member)
{
    struct wave *w = ctx;
    int size = gang_size(w->gang);

    for (int round = 0; round < ROUNDS; round++) {
        const uint32_t *from = w->cells[round % 2];
        uint32_t sum = (uint32_t)member + 1;
        for (int i = 0; i < size; i++)
            sum = sum * 31 + from[i];
        w->cells[(round + 1) % 2][member] = sum;
        gang_barrier(w->gang);
    }
}

static void wave_expect(struct wave *w, int size)
{
    for (int round = 0; round < ROUNDS; round++)
        for (int m = 0; m < size; m++) {
            uint32_t sum = (uint32_t)m + 1;
            for (int i = 0; i < size; i++)
                sum = sum * 31 + w->cells[round % 2][i];
            w->cells[(round + 1) % 2][m] = sum;
        }
}

static void barriers_order_the_members(void **state)
{
    (void)state;
    for (int size = 1; size <= SIZE_MAX_TESTED; size++) {
        struct wave w = {.cells = {{1, 2, 3, 4}}}, expected = w;
        assert_int_equal(gang_new(&w.gang, size, 0), 0);
        assert_int_equal(gang_size(w.gang), size);
        gang_run(w.gang, wave_run, &w);
        wave_expect(&expected, size);
        assert_memory_equal(w.cells, expected.cells, sizeof w.cells);
        gang_free(w.gang);
    }
}

static void count_call(void *ctx, int member)
{
    ((int *)ctx)[member]++;
}

static void every_run_calls_each_member_once(void **state)
{
    (void)state;
    for (int size = 1; size <= SIZE_MAX_TESTED; size++) {
        struct gang *g;
        int calls[SIZE_MAX_TESTED] = {0};
        assert_int_equal(gang_new(&g, size, 0), 0);
        for (int i = 1; i <= ROUNDS; i++) {
            gang_run(g, count_call, calls);
            for (int m = 0; m < size; m++)
                assert_int_equal(calls[m], i);
        }
        gang_free(g);
    }
}

static void note_priority(void *ctx, int member)
{
    ((int *)ctx)[member] = getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void only_the_threads_of_the_gang_are_niced(void **state)
{
    struct gang *g;
    int before = getpriority(PRIO_PROCESS, 0), level[3];
    (void)state;

    assert_int_equal(gang_new(&g, 3, 19), 0);
    gang_run(g, note_priority, level);
    for (int i = 0; i < 3; i++)
        assert_int_equal(level[i], 19);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), before); /* the caller's own */
    gang_free(g);
}

static void misuse_is_refused(void **state)
{
    struct gang *g = NULL;
    (void)state;

    assert_int_equal(gang_new(&g, 0, 0), ERR_INVALID);
    assert_int_equal(gang_new(&g, 1, 20), ERR_INVALID);
    assert_int_equal(gang_new(&g, 1, -1), ERR_INVALID);
    assert_null(g);
    gang_free(NULL);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* In a child: room for a few stacks, not for all. The sanitizers need the address space. */
static int gang_new_in_little_memory(void)
{
    struct rlimit limit = {.rlim_cur = 256u << 20, .rlim_max = 256u << 20};
    struct gang *g = NULL;

    if (setrlimit(RLIMIT_AS, &limit))
        return 1;
    if (gang_new(&g, 200, 0) != ERR_NOMEM || g)
        return 2;
    return 0;
}

static void a_thread_that_cannot_start_fails_the_gang(void **state)
{
    int status = -1;
    (void)state;

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(20); /* a member left waiting would hang here */
        _exit(gang_new_in_little_memory());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_cover_the_range_evenly),
        cmocka_unit_test(barriers_order_the_members),
        cmocka_unit_test(every_run_calls_each_member_once),
        cmocka_unit_test(only_the_threads_of_the_gang_are_niced),
        cmocka_unit_test(misuse_is_refused),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(a_thread_that_cannot_start_fails_the_gang),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
