/*
 * test_predictor.c - tasks through a real predictor: batches, the bounded queue, errors, and swaps
 * under load.
 */
#include "tests/unit/server/store_fixture.h"

#include <math.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "core/nn/rng.h"
#include "server/app.h"
#include "server/jobs/predictor.h"
#include "server/work.h"

enum { SIDE = 8, CHANNELS = 3, CLASSES = 3, FEATURES = 64, FLOATS = SIDE * SIDE * CHANNELS };

static const char *const names[CLASSES] = {"cat", "dog", "fox"};

/* A model that names class `favourite`, whatever it sees, by the bias of its head. */
static struct serving *make_serving(int64_t version, int favourite)
{
    const struct resnet_spec spec = {
        .blocks = 1, .channels = CHANNELS, .height = SIDE, .width = SIDE, .classes = CLASSES};
    const int end = CLASSES;
    struct model *m;
    struct serving *s;
    assert_int_equal(model_new(&m, &spec, &end, 1, conv_isa_best()), 0);
    resnet_initialise(m->net, (uint64_t)version, m->params);
    m->params[m->net->params.entries[m->net->head_bias[0]].offset + favourite] += 50;
    m->score_scale = 0.5f;
    assert_int_equal(serving_new(&s, version, m, names), 0);
    model_release(m);
    return s;
}

/* ---- a predictor on a loop ---- */

struct fixture {
    struct store *store;
    struct app app;
    struct predictor *predictor;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    store_setup((void **)&f->store);
    f->app = (struct app){.loop = &f->store->loop, .db = f->store->db, .isa = conv_isa_best()};
    assert_int_equal(predictor_new(&f->predictor, &f->app), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(predictor_pending(f->predictor), 0);
    predictor_free(f->predictor);
    store_teardown((void **)&f->store);
    free(f);
    return 0;
}

/* ---- tasks ---- */

struct ask {
    struct predictor_task task; /* first */
    int images, err, seed;
    sem_t *held; /* posted by finish, which then waits for the next */
    sem_t *hold;
    bool done;
};

static int prepare(struct predictor_task *task)
{
    struct ask *a = (struct ask *)task;
    float *x = predictor_task_room(task, a->images);
    struct rng rng;
    rng_init(&rng, (uint64_t)a->seed, 0);
    for (int i = 0; i < a->images * FLOATS; i++)
        x[i] = rng_uniform(&rng);
    task->count = a->images;
    return a->err;
}

static int finish(struct predictor_task *task)
{
    struct ask *a = (struct ask *)task;
    if (a->hold) {
        sem_post(a->held);
        sem_wait(a->hold);
    }
    return 0;
}

static void done(struct predictor_task *task)
{
    ((struct ask *)task)->done = true;
}

static int submit(struct fixture *f, struct ask *a, int images, int64_t version)
{
    a->task = (struct predictor_task){.prepare = prepare, .finish = finish, .done = done,
                                      .want_features = a->task.want_features};
    a->images = images;
    a->done = false;
    return predictor_submit(f->predictor, &a->task, version);
}

static void run(struct fixture *f)
{
    while (predictor_pending(f->predictor) > 0)
        uv_run(&f->store->loop, UV_RUN_ONCE);
}

static void favours(const struct predictor_task *t, int class_index)
{
    for (int i = 0; i < t->count; i++) {
        struct prediction top;
        assert_int_equal(serving_top(t->serving, t->probabilities + i * CLASSES, 1, &top), 1);
        assert_int_equal(top.class_index, class_index);
    }
}

/* ---- the tests ---- */

static void test_top(void **state)
{
    (void)state;
    struct serving *s = make_serving(1, 0);
    const float p[CLASSES] = {0.25f, 0.5f, 0.25f};
    struct prediction top[CLASSES];
    assert_int_equal(serving_top(s, p, 2, top), 2);
    assert_int_equal(top[0].class_index, 1);
    assert_int_equal(top[1].class_index, 0); /* the lower of two equals */
    assert_int_equal(serving_top(s, p, 100, top), CLASSES);
    assert_int_equal(top[2].class_index, 2);
    serving_release(s);
}

static void test_results(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.seed = 3};
    predictor_swap(f->predictor, make_serving(1, 2));
    a.task.want_features = true;
    assert_int_equal(submit(f, &a, 5, 0), 0);
    run(f);
    assert_true(a.done);
    assert_int_equal(a.task.err, 0);
    favours(&a.task, 2);
    for (int i = 0; i < 5; i++) {
        double sum = 0, squares = 0, z = 0;
        for (int c = 0; c < CLASSES; c++) {
            sum += a.task.probabilities[i * CLASSES + c];
            z += exp(a.task.scores[i * CLASSES + c]);
        }
        for (int c = 0; c < CLASSES; c++) /* the softmax of the scores as they are */
            assert_float_equal(a.task.probabilities[i * CLASSES + c],
                               exp(a.task.scores[i * CLASSES + c]) / z, 1e-6);
        for (int j = 0; j < FEATURES; j++)
            squares += pow(a.task.features[i * FEATURES + j], 2);
        assert_float_equal(sum, 1, 1e-6);
        assert_float_equal(squares, 1, 1e-5);
    }
    predictor_task_release(&a.task);
}

/* While both lanes are held, four tasks get ready: they must go through together, with the results
 * they have alone. */
static void test_waiting_tasks_share_a_batch(void **state)
{
    enum { WAITING = 4 };
    struct fixture *f = *state;
    struct ask holding[PREDICTOR_LANES] = {0}, waiting[WAITING] = {0}, alone[WAITING] = {0};
    struct predictor_stats stats;
    sem_t held, hold;
    sem_init(&held, 0, 0);
    sem_init(&hold, 0, 0);
    predictor_swap(f->predictor, make_serving(1, 1));
    for (int i = 0; i < WAITING; i++) {
        alone[i].seed = i;
        assert_int_equal(submit(f, &alone[i], i + 1, 0), 0);
        run(f);
    }
    for (int i = 0; i < PREDICTOR_LANES; i++) {
        holding[i].hold = &hold;
        holding[i].held = &held;
        assert_int_equal(submit(f, &holding[i], PREDICTOR_BATCH, 0), 0);
    }
    for (int i = 0; i < PREDICTOR_LANES; i++)
        sem_wait(&held);
    for (int i = 0; i < WAITING; i++) {
        waiting[i].seed = i;
        assert_int_equal(submit(f, &waiting[i], i + 1, 0), 0);
    }
    while (work_pending() > PREDICTOR_LANES) /* the threads that only prepared are back */
        uv_run(&f->store->loop, UV_RUN_ONCE);
    for (int i = 0; i < PREDICTOR_LANES; i++)
        sem_post(&hold);
    run(f);
    predictor_stats(f->predictor, 1, &stats);
    assert_int_equal(stats.batches, WAITING + PREDICTOR_LANES + 1);
    assert_int_equal(stats.tasks, 2 * WAITING + PREDICTOR_LANES);
    assert_int_equal(stats.images, 20 + PREDICTOR_LANES * PREDICTOR_BATCH);
    for (int i = 0; i < WAITING; i++) {
        for (int j = 0; j < (i + 1) * CLASSES; j++)
            assert_float_equal(waiting[i].task.scores[j], alone[i].task.scores[j], 1e-4);
        predictor_task_release(&waiting[i].task);
        predictor_task_release(&alone[i].task);
    }
    for (int i = 0; i < PREDICTOR_LANES; i++)
        predictor_task_release(&holding[i].task);
    sem_destroy(&held);
    sem_destroy(&hold);
}

static void test_queue_is_bounded(void **state)
{
    struct fixture *f = *state;
    static struct ask asks[PREDICTOR_QUEUE + 1];
    predictor_swap(f->predictor, make_serving(1, 0));
    for (int i = 0; i < PREDICTOR_QUEUE; i++)
        assert_int_equal(submit(f, &asks[i], 1, 0), 0);
    assert_int_equal(submit(f, &asks[PREDICTOR_QUEUE], 1, 0), ERR_NOSPACE);
    run(f);
    for (int i = 0; i < PREDICTOR_QUEUE; i++) {
        assert_true(asks[i].done);
        favours(&asks[i].task, 0);
        predictor_task_release(&asks[i].task);
    }
    assert_int_equal(submit(f, &asks[0], 1, 0), 0);
    run(f);
    predictor_task_release(&asks[0].task);
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.err = ERR_FORMAT}, none = {0};
    struct predictor_stats stats;
    assert_int_equal(submit(f, &a, 1, 0), ERR_MISSING);
    predictor_swap(f->predictor, make_serving(4, 0));
    assert_int_equal(submit(f, &a, 1, 5), ERR_MISSING);
    assert_int_equal(submit(f, &a, 1, 4), 0);
    assert_int_equal(submit(f, &none, 0, 4), 0); /* every image was refused */
    run(f);
    assert_true(a.done && none.done);
    assert_int_equal(a.task.err, ERR_FORMAT);
    assert_int_equal(none.task.err, 0);
    assert_int_equal(none.task.count, 0);
    predictor_stats(f->predictor, 0, &stats);
    assert_int_equal(stats.tasks, 0);
    assert_int_equal(stats.failed_tasks, 2);
    predictor_task_release(&a.task);
    predictor_task_release(&none.task);
}

/* A thousand swaps while tasks are always under way: each is answered by the version it began with.
 * */
static void test_swaps_fail_no_task(void **state)
{
    enum { SWAPS = 1000, UNDER_WAY = 12 };
    struct fixture *f = *state;
    static struct ask asks[UNDER_WAY];
    int answered = 0;
    predictor_swap(f->predictor, make_serving(1, 1));
    for (int swap = 1; swap <= SWAPS; swap++) {
        for (int i = 0; i < UNDER_WAY; i++) {
            struct ask *a = &asks[i];
            if (a->done) {
                assert_int_equal(a->task.err, 0);
                favours(&a->task, (int)(a->task.serving->version % CLASSES));
                predictor_task_release(&a->task);
                answered++;
                a->done = false;
                a->images = 0;
            }
            if (a->images == 0)
                assert_int_equal(submit(f, a, 1 + i % 3, 0), 0);
        }
        predictor_swap(f->predictor, make_serving(swap + 1, (swap + 1) % CLASSES));
        uv_run(&f->store->loop, swap % 4 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    }
    run(f);
    for (int i = 0; i < UNDER_WAY; i++)
        predictor_task_release(&asks[i].task);
    assert_true(answered > UNDER_WAY);
}

int main(void)
{
    work_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top),
        cmocka_unit_test_setup_teardown(test_results, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiting_tasks_share_a_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swaps_fail_no_task, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
