/*
 * test_retire.c - a class that is retired: never the best one, gone from what is left of the model, erased from files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/model/frozen.h"
#include "core/model/retire.h"
#include "tests/unit/core/path_fixture.h"

enum { CLASSES = 5, WIDTH = 64, PIXELS = 8 * 8 * 3 };

static const struct resnet_spec spec = {
    .blocks = 1, .channels = 3, .height = 8, .width = 8, .classes = CLASSES};
static const int steps[3] = {2, 3, 5};

static struct model *make(enum classifier classifier)
{
    struct model *m;
    assert_int_equal(model_new(&m, &spec, steps, 3, CONV_ISA_BASELINE), 0);
    resnet_initialise(m->net, 7, m->params);
    for (int i = 0; i < CLASSES * WIDTH; i++)
        m->prototypes[i] = (float)((i * 37) % 101) / 101;
    for (uint32_t c = 0; c < CLASSES; c++)
        m->images[c] = 10 + c;
    m->classifier = classifier;
    m->score_scale = 3;
    m->view = (struct model_view){1, 0.5f};
    return m;
}

static void classify(struct model *m, float *scores, float *probabilities)
{
    struct frozen *f;
    struct frozen_workspace *ws;
    float x[PIXELS];
    for (int i = 0; i < PIXELS; i++)
        x[i] = (float)((i * 13) % 17) / 17;
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(frozen_workspace_new(&ws, f), 0);
    frozen_scores(f, ws, 1, x, scores);
    frozen_probabilities(f, ws, 1, x, probabilities);
    frozen_workspace_free(ws);
    frozen_free(f);
}

/* Under every classifier the rest scores as before, in the model and in what is left of it. */
static void test_never_the_best_one(void **state)
{
    (void)state;
    const int rest[3] = {0, 3, 4};
    for (int k = CLASSIFIER_HEAD; k <= CLASSIFIER_DISCRIMINANT; k++) {
        float before[CLASSES], after[CLASSES], left[CLASSES], p[CLASSES], left_p[CLASSES];
        struct model *m = make((enum classifier)k), *live;
        classify(m, before, p);
        model_retire(m, 1);
        model_retire(m, 2);
        classify(m, after, p);
        assert_int_equal(model_live(&live, m), 0);
        assert_int_equal(live->net->spec.classes, 3);
        classify(live, left, left_p);
        for (int i = 0; i < 3; i++) {
            assert_float_equal(after[rest[i]], before[rest[i]], 1e-5);
            assert_float_equal(left[i], before[rest[i]], 1e-5);
            assert_float_equal(left_p[i], p[rest[i]], 1e-5);
        }
        for (int c = 1; c < 3; c++) {
            assert_true(after[c] == FROZEN_RETIRED_SCORE);
            assert_true(p[c] == 0);
        }
        model_release(live);
        model_release(m);
    }
}

static void test_what_is_left(void **state)
{
    (void)state;
    struct model *m = make(CLASSIFIER_HEAD), *live;
    assert_int_equal(model_live(&live, m), 0);
    assert_ptr_equal(live, m); /* nothing is retired */
    model_release(live);
    model_retire(m, 0);
    model_retire(m, 2); /* the only one of its step */
    assert_int_equal(model_live(&live, m), 0);
    assert_int_equal(live->step_count, 2);
    assert_int_equal(live->step_end[0], 1);
    assert_int_equal(live->step_end[1], 3);
    assert_memory_equal(live->prototypes, m->prototypes + WIDTH, WIDTH * sizeof(float));
    assert_memory_equal(live->prototypes + WIDTH, m->prototypes + 3 * WIDTH,
                        2 * WIDTH * sizeof(float));
    assert_true(live->images[0] == 11 && live->images[2] == 14 && m->images[2] == 0);
    model_release(live);
    for (int c = 0; c < CLASSES; c++)
        model_retire(m, c);
    assert_int_equal(model_live(&live, m), ERR_INVALID);
    model_release(m);
}

static void test_erased_from_a_file(void **state)
{
    (void)state;
    const int classes[2] = {1, 4}, beyond = CLASSES;
    bool changed = false;
    struct model *m = make(CLASSIFIER_PROTOTYPES), *loaded;
    assert_int_equal(model_save(m, path, NULL), 0);
    assert_int_equal(model_file_forget(path, CONTAINER_MODEL, &beyond, 1, &changed), ERR_FORMAT);
    assert_int_equal(model_file_forget(path, CONTAINER_SNAPSHOT, classes, 2, &changed), ERR_FORMAT);
    assert_false(changed);
    assert_int_equal(model_file_forget(path, CONTAINER_MODEL, classes, 2, &changed), 0);
    assert_true(changed);
    assert_int_equal(model_load(&loaded, path, CONV_ISA_BASELINE), 0);
    memset(m->prototypes + WIDTH, 0, WIDTH * sizeof(float));
    memset(m->prototypes + 4 * WIDTH, 0, WIDTH * sizeof(float));
    assert_memory_equal(loaded->prototypes, m->prototypes, CLASSES * WIDTH * sizeof(float));
    assert_memory_equal(loaded->params, m->params, m->net->params.count * sizeof(float));
    assert_int_equal(model_file_forget(path, CONTAINER_MODEL, classes, 2, &changed), 0);
    assert_false(changed); /* once more: nothing to do */
    assert_int_equal(model_file_forget("/nonexistent/x", CONTAINER_MODEL, classes, 2, &changed),
                     ERR_MISSING);
    model_release(loaded);
    model_release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_the_best_one),
        cmocka_unit_test(test_what_is_left),
        cmocka_unit_test_setup_teardown(test_erased_from_a_file, make_path, remove_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
