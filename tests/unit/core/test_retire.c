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
#include "core/m2kd/mask.h"
#include "core/m2kd/prototypes.h"
#include "core/m2kd/snapshot.h"
#include "core/m2kd/snapshot_coding.h"
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

/* Two classes erased from the file at `path`, which has `m`. */
static void check_erased(struct model *m, enum container_kind kind,
                         int (*load)(struct model **, const char *, enum conv_isa))
{
    const int classes[2] = {1, 4}, beyond = CLASSES;
    bool changed = false;
    struct model *loaded;
    assert_int_equal(model_file_forget(path, kind, &beyond, 1, &changed), ERR_FORMAT);
    assert_false(changed);
    assert_int_equal(model_file_forget(path, kind, classes, 2, &changed), 0);
    assert_true(changed);
    assert_int_equal(load(&loaded, path, CONV_ISA_BASELINE), 0);
    memset(m->prototypes + WIDTH, 0, WIDTH * sizeof(float));
    memset(m->prototypes + 4 * WIDTH, 0, WIDTH * sizeof(float));
    assert_memory_equal(loaded->prototypes, m->prototypes, CLASSES * WIDTH * sizeof(float));
    assert_memory_equal(loaded->covariance, m->covariance, COVARIANCE_FLOATS(WIDTH) * sizeof(float));
    assert_memory_equal(loaded->params, m->params, m->net->params.count * sizeof(float));
    assert_int_equal(model_file_forget(path, kind, classes, 2, &changed), 0);
    assert_false(changed); /* once more: nothing to do */
    model_release(loaded);
}

static void test_erased_from_a_file(void **state)
{
    (void)state;
    const int class = 1;
    bool changed = false;
    struct model *m = make(CLASSIFIER_PROTOTYPES);
    assert_int_equal(model_save(m, path, NULL), 0);
    assert_int_equal(model_file_forget(path, CONTAINER_SNAPSHOT, &class, 1, &changed), ERR_FORMAT);
    assert_false(changed);
    check_erased(m, CONTAINER_MODEL, model_load);
    assert_int_equal(model_file_forget("/nonexistent/x", CONTAINER_MODEL, &class, 1, &changed),
                     ERR_MISSING);
    model_release(m);
}

/* Snapshots of `m`, all its weights kept. */
static void save_snapshot(struct model *m)
{
    uint8_t *mask = malloc(m->net->params.count);
    assert_non_null(mask);
    memset(mask, MASK_KEPT, m->net->params.count);
    for (int i = 0; i < WIDTH; i++)
        m->covariance[i * (i + 1) / 2 + i] = 0.01f;
    assert_int_equal(snapshot_round(m, mask, 6), 0);
    assert_int_equal(snapshot_save(m, mask, 6, path, NULL), 0);
    free(mask);
}

/* Its prototypes are coded. */
static void test_erased_from_a_snapshot(void **state)
{
    (void)state;
    struct model *m = make(CLASSIFIER_PROTOTYPES);
    save_snapshot(m);
    check_erased(m, CONTAINER_SNAPSHOT, snapshot_load);
    model_release(m);
}

/* Writes the snapshot at `path` with these bytes as its section MEAN, and says what erasing a class of it says. */
static int forget_forged(const void *means, size_t bytes)
{
    struct container_section out[CONTAINER_MAX_SECTIONS];
    struct container *c;
    const int class = 1;
    bool changed = false;
    assert_int_equal(container_read(&c, path, CONTAINER_SNAPSHOT), 0);
    int count = container_sections(c, out);
    for (int i = 0; i < count; i++)
        if (out[i].id == CONTAINER_ID('M', 'E', 'A', 'N'))
            out[i] = (struct container_section){out[i].id, bytes, means};
    assert_int_equal(container_write(path, CONTAINER_SNAPSHOT, out, count, NULL), 0);
    container_free(c);
    return model_file_forget(path, CONTAINER_SNAPSHOT, &class, 1, &changed);
}

static void test_forged_means_are_refused(void **state)
{
    (void)state;
    struct statistics_codes s;
    struct arithmetic a;
    size_t bytes;
    void *coded;
    struct model *m = make(CLASSIFIER_PROTOTYPES);
    save_snapshot(m);
    assert_int_equal(statistics_codes_init(&s, CLASSES, WIDTH), 0);
    arithmetic_encoder(&a);
    assert_int_equal(coding_means(&a, &s), 0);
    assert_int_equal(arithmetic_finish(&a, &coded, &bytes), 0);
    assert_int_equal(forget_forged(coded, bytes), 0);
    assert_int_not_equal(forget_forged(coded, bytes - 1), 0);
    assert_int_not_equal(forget_forged("", 0), 0);
    memset(coded, 0, bytes); /* ones throughout: numbers as large as can be */
    assert_int_equal(forget_forged(coded, bytes), ERR_CORRUPT);
    free(coded);
    statistics_codes_release(&s);
    model_release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_the_best_one),
        cmocka_unit_test(test_what_is_left),
        cmocka_unit_test(test_erased_from_a_file),
        cmocka_unit_test(test_erased_from_a_snapshot),
        cmocka_unit_test(test_forged_means_are_refused),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
