/*
 * test_work.c - the pool: steps of uploads wait for their turn, and leave threads to all else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "server/work.h"

enum { UPLOADS = 2 * WORK_POOL_THREADS };

struct pool {
    uv_loop_t loop;
    sem_t go, first;    /* let one upload's step end: any, and the first */
    atomic_int begun;   /* of them */
    int order[UPLOADS]; /* in which they began */
    int ended, short_ended;
    bool again;         /* the first gives another step when it ends */
};

struct step {
    struct pool *pool;
    int number;
};

static void upload(void *ctx)
{
    struct step *s = ctx;
    s->pool->order[atomic_fetch_add(&s->pool->begun, 1)] = s->number;
    sem_wait(s->number == 0 ? &s->pool->first : &s->pool->go);
}

static void uploaded(void *ctx)
{
    struct step *s = ctx;
    struct pool *p = s->pool;
    p->ended++;
    if (s->number > 0 || !p->again)
        return;
    s->number = UPLOADS - 1;
    assert_int_equal(work_run_upload(&p->loop, upload, uploaded, s), 0);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

static void count_short(void *ctx)
{
    struct pool *p = ctx;
    p->short_ended++;
}

static int set_up(void **state)
{
    struct pool *p = calloc(1, sizeof *p);
    assert_int_equal(uv_loop_init(&p->loop), 0);
    assert_int_equal(sem_init(&p->go, 0, 0), 0);
    assert_int_equal(sem_init(&p->first, 0, 0), 0);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct pool *p = *state;
    int busy = work_pending() != 0 || uv_loop_close(&p->loop) != 0;
    sem_destroy(&p->go);
    sem_destroy(&p->first);
    free(p);
    return busy;
}

static void run_until(struct pool *p, const int *count, int wanted)
{
    while (*count < wanted)
        uv_run(&p->loop, UV_RUN_ONCE);
}

static void give(struct pool *p, struct step *steps, int from, int to)
{
    for (int i = from; i < to; i++) {
        steps[i] = (struct step){p, i};
        assert_int_equal(work_run_upload(&p->loop, upload, uploaded, &steps[i]), 0);
    }
}

/* With more uploads than there are threads, none of which ends. */
static void short_work_finds_a_thread(void **state)
{
    struct pool *p = *state;
    struct step steps[UPLOADS];
    give(p, steps, 0, UPLOADS);
    for (int i = 0; i < 20; i++)
        assert_int_equal(work_run(&p->loop, nothing, count_short, p), 0);
    run_until(p, &p->short_ended, 20);
    assert_int_equal(p->ended, 0);
    assert_int_equal(work_pending(), UPLOADS);
    assert_in_range(atomic_load(&p->begun), 0, WORK_UPLOADS);
    sem_post(&p->first);
    for (int i = 1; i < UPLOADS; i++)
        sem_post(&p->go);
    run_until(p, &p->ended, UPLOADS);
}

/* One after the other; the next step of what ends first comes behind all that wait. */
static void first_come_first_served(void **state)
{
    struct pool *p = *state;
    struct step steps[UPLOADS - 1];
    p->again = true;
    give(p, steps, 0, UPLOADS - 1);
    for (int begun = WORK_UPLOADS; p->ended < UPLOADS; begun += begun < UPLOADS) {
        while (atomic_load(&p->begun) < begun)
            uv_sleep(1);
        sem_post(p->ended == 0 ? &p->first : &p->go);
        run_until(p, &p->ended, p->ended + 1);
    }
    for (int i = WORK_UPLOADS; i < UPLOADS; i++)
        assert_int_equal(p->order[i], i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(short_work_finds_a_thread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(first_come_first_served, set_up, tear_down),
    };
    return work_setup() != 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
