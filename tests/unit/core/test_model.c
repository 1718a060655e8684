/*
 * test_model.c - the life of a model, and its dense file.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/model/model.h"
#include "core/storage/container.h"
#include "tests/unit/core/path_fixture.h"

static const struct resnet_spec spec = {
    .blocks = 1, .channels = 3, .height = 8, .width = 9, .classes = 5};
static const int steps[2] = {2, 5};

static struct model *make(void)
{
    struct model *m;
    assert_int_equal(model_new(&m, &spec, steps, 2, CONV_ISA_BASELINE), 0);
    resnet_initialise(m->net, 7, m->params);
    for (int i = 0; i < 5 * 64; i++)
        m->prototypes[i] = 0.01f * (float)i;
    for (int i = 0; i < 64 * 65 / 2; i++)
        m->covariance[i] = 0.02f * (float)i;
    for (int c = 0; c < 5; c++)
        m->images[c] = UINT32_MAX - (uint32_t)c;
    for (int c = 0; c < 3; c++) {
        m->mean[c] = 0.1f * (float)c;
        m->std[c] = 0.2f + (float)c;
    }
    m->classifier = CLASSIFIER_PROTOTYPES;
    m->score_scale = 12.5f;
    m->view = (struct model_view){1, 0.75f};
    return m;
}

static void test_new_refuses_bad_steps(void **state)
{
    (void)state;
    struct model *m = NULL;
    const int equal[2] = {5, 5}, negative[2] = {-1, 5}, zero[2] = {0, 5}, small[2] = {2, 4};
    static int many[MODEL_MAX_STEPS + 1];
    struct resnet_spec wide = spec;
    wide.classes = MODEL_MAX_STEPS + 1;
    for (int i = 0; i <= MODEL_MAX_STEPS; i++)
        many[i] = i + 1;
    assert_int_equal(model_new(&m, &spec, equal, 2, CONV_ISA_BASELINE), ERR_INVALID);
    assert_int_equal(model_new(&m, &spec, negative, 2, CONV_ISA_BASELINE), ERR_INVALID);
    assert_int_equal(model_new(&m, &spec, zero, 2, CONV_ISA_BASELINE), ERR_INVALID);
    assert_int_equal(model_new(&m, &spec, small, 2, CONV_ISA_BASELINE), ERR_INVALID);
    assert_int_equal(model_new(&m, &spec, steps, 0, CONV_ISA_BASELINE), ERR_INVALID);
    assert_int_equal(model_new(&m, &wide, many, MODEL_MAX_STEPS + 1, CONV_ISA_BASELINE),
                     ERR_INVALID);
    wide = spec;
    wide.blocks = 0;
    assert_int_equal(model_new(&m, &wide, steps, 2, CONV_ISA_BASELINE), ERR_INVALID);
    assert_null(m);
}

static void test_life(void **state)
{
    (void)state;
    struct model *m = make();
    assert_ptr_equal(model_hold(m), m);
    model_release(m);
    assert_int_equal(m->step_count, 2); /* still there: the sanitizer would say */
    int first, end;
    model_step_classes(m, 0, &first, &end);
    assert_true(first == 0 && end == 2);
    model_step_classes(m, 1, &first, &end);
    assert_true(first == 2 && end == 5);
    assert_int_equal(model_dense_bytes(m), m->net->params.count * 4);
    model_release(m);
    model_release(NULL);
}

/* Everything that a model is, in memory of its own. */
static void test_copy(void **state)
{
    (void)state;
    struct model *m = make(), *n;
    m->retired[3] = 1;
    assert_int_equal(model_copy(&n, m, CONV_ISA_BASELINE), 0);
    assert_memory_equal(&n->net->spec, &spec, sizeof spec);
    m->params[9] += 1;
    assert_true(n->params[9] == m->params[9] - 1);
    m->params[9] -= 1;
    assert_memory_equal(n->params, m->params, model_dense_bytes(m));
    assert_memory_equal(n->prototypes, m->prototypes, 5 * 64 * sizeof(float));
    assert_memory_equal(n->covariance, m->covariance, 64 * 65 / 2 * sizeof(float));
    assert_memory_equal(n->images, m->images, 5 * sizeof *m->images);
    assert_memory_equal(n->retired, m->retired, 5);
    assert_memory_equal(n->mean, m->mean, sizeof m->mean);
    assert_memory_equal(n->std, m->std, sizeof m->std);
    assert_int_equal(n->step_count, 2);
    assert_memory_equal(n->step_end, steps, sizeof steps);
    assert_int_equal(n->classifier, CLASSIFIER_PROTOTYPES);
    assert_true(n->score_scale == 12.5f);
    assert_memory_equal(&n->view, &m->view, sizeof m->view);
    model_release(m);
    assert_int_equal(n->step_end[1], 5); /* still there */
    model_release(n);
}

static void test_file_round_trip(void **state)
{
    (void)state;
    struct model *m = make(), *n;
    uint64_t bytes = 0;
    assert_int_equal(model_save(m, path, &bytes), 0);
    assert_true(bytes > model_dense_bytes(m));
    assert_int_equal(model_load(&n, path, CONV_ISA_BASELINE), 0);
    assert_memory_equal(&n->net->spec, &spec, sizeof spec);
    assert_memory_equal(n->params, m->params, model_dense_bytes(m));
    assert_memory_equal(n->prototypes, m->prototypes, 5 * 64 * sizeof(float));
    assert_memory_equal(n->covariance, m->covariance, 64 * 65 / 2 * sizeof(float));
    assert_memory_equal(n->images, m->images, 5 * sizeof *m->images);
    assert_memory_equal(n->mean, m->mean, 3 * sizeof(float));
    assert_memory_equal(n->std, m->std, 3 * sizeof(float));
    assert_int_equal(n->step_count, 2);
    assert_memory_equal(n->step_end, steps, sizeof steps);
    assert_int_equal(n->classifier, CLASSIFIER_PROTOTYPES);
    assert_true(n->score_scale == 12.5f);
    assert_memory_equal(&n->view, &m->view, sizeof m->view);
    model_release(n);
    model_release(m);
}

static void test_save_refuses_what_load_would(void **state)
{
    (void)state;
    struct model *m = make();
    float *const spots[] = {&m->params[17], &m->prototypes[3], &m->mean[1],    &m->covariance[5],
                            &m->std[2],     &m->score_scale,   &m->view.power};
    for (size_t i = 0; i < sizeof spots / sizeof spots[0]; i++) {
        float kept = *spots[i];
        *spots[i] = NAN;
        assert_int_equal(model_save(m, path, NULL), ERR_INVALID);
        *spots[i] = INFINITY;
        assert_int_equal(model_save(m, path, NULL), ERR_INVALID);
        *spots[i] = kept;
    }
    m->std[0] = 0.0f;
    assert_int_equal(model_save(m, path, NULL), ERR_INVALID);
    m->std[0] = 1.0f;
    const struct resnet *net = m->net;
    float *variance = &m->params[net->params.entries[net->layers[3].var].offset];
    *variance = -1e-6f;
    assert_int_equal(model_save(m, path, NULL), ERR_INVALID);
    *variance = 0.0f;
    assert_int_equal(model_save(m, path, NULL), 0);
    model_release(m);
}

/* Rewrites the file at `path` with one 32-bit word of one section replaced, checksums right; a
 * null `word` drops the section. Returns what loading it says. */
static int load_forged(uint32_t id, size_t at, const void *word)
{
    static const uint32_t ids[] = {CONTAINER_ID('S', 'P', 'E', 'C'),
                                   CONTAINER_ID('S', 'T', 'E', 'P'),
                                   CONTAINER_ID('V', 'I', 'E', 'W'),
                                   CONTAINER_ID('P', 'R', 'O', 'T'),
                                   CONTAINER_ID('C', 'O', 'V', 'A'),
                                   CONTAINER_ID('P', 'A', 'R', 'M')};
    struct container *c;
    enum { IDS = sizeof ids / sizeof ids[0] };
    struct container_section out[IDS];
    int count = 0;
    unsigned char *copy = NULL;
    assert_int_equal(container_read(&c, path, CONTAINER_MODEL), 0);
    for (int i = 0; i < IDS; i++) {
        if (ids[i] == id && !word)
            continue;
        assert_int_equal(container_find(c, ids[i], &out[count]), 0);
        if (ids[i] == id) {
            copy = malloc(out[count].size_bytes);
            assert_non_null(copy);
            memcpy(copy, out[count].data, out[count].size_bytes);
            memcpy(copy + at * 4, word, 4);
            out[count].data = copy;
        }
        count++;
    }
    char forged[sizeof path + 8];
    snprintf(forged, sizeof forged, "%s.forged", path);
    assert_int_equal(container_write(forged, CONTAINER_MODEL, out, count, NULL), 0);
    container_free(c);
    free(copy);
    struct model *m = NULL;
    int err = model_load(&m, forged, CONV_ISA_BASELINE);
    assert_true((err == 0) == (m != NULL));
    model_release(m);
    unlink(forged);
    return err;
}

static void test_load_refuses_forged_sections(void **state)
{
    (void)state;
    const uint32_t SPEC = CONTAINER_ID('S', 'P', 'E', 'C'), STEP = CONTAINER_ID('S', 'T', 'E', 'P'),
                   PROT = CONTAINER_ID('P', 'R', 'O', 'T'), PARM = CONTAINER_ID('P', 'A', 'R', 'M'),
                   COVA = CONTAINER_ID('C', 'O', 'V', 'A'),
                   VIEW = CONTAINER_ID('V', 'I', 'E', 'W');
    const float nan = NAN, zero = 0, one = 1, minus = -1;
    struct model *m = make();
    const struct resnet *net = m->net;
    size_t mean = net->params.entries[net->layers[0].mean].offset;
    size_t variance = net->params.entries[net->layers[0].var].offset;
    assert_int_equal(model_save(m, path, NULL), 0);
    model_release(m);
    assert_int_equal(load_forged(PARM, mean, &minus), 0);
    assert_int_equal(load_forged(PARM, variance, &zero), 0);
    assert_int_equal(load_forged(PARM, variance, &minus), ERR_CORRUPT);
    assert_int_equal(load_forged(PARM, 3, &one), 0);
    assert_int_equal(load_forged(PARM, 3, &nan), ERR_CORRUPT);
    assert_int_equal(load_forged(PROT, 5 * 64 - 1, &nan), ERR_CORRUPT);
    assert_int_equal(load_forged(COVA, 64 * 65 / 2 - 1, &nan), ERR_CORRUPT);
    assert_int_equal(load_forged(COVA, 0, NULL), ERR_FORMAT);
    assert_int_equal(load_forged(SPEC, 13, &zero), ERR_FORMAT); /* std[0] */
    assert_int_equal(load_forged(SPEC, 8, &nan), ERR_FORMAT);   /* score_scale */
    for (size_t at = 0; at < 8; at++)                           /* arch .. classifier */
        for (int k = 0; k < 4; k++) {
            static const int32_t bad[] = {-1, INT32_MAX, INT32_MIN, 6};
            assert_int_equal(load_forged(SPEC, at, &bad[k]), ERR_FORMAT);
        }
    const float powers[] = {0, MODEL_POWER_MIN / 2, 1.5f, -1, NAN};
    const int32_t two = 2, less = -1;
    for (size_t i = 0; i < sizeof powers / sizeof powers[0]; i++)
        assert_int_equal(load_forged(VIEW, 1, &powers[i]), ERR_FORMAT);
    assert_int_equal(load_forged(VIEW, 1, &one), 0);
    assert_int_equal(load_forged(VIEW, 0, &two), ERR_FORMAT);
    assert_int_equal(load_forged(VIEW, 0, &less), ERR_FORMAT);
    const int32_t five = 5;
    assert_int_equal(load_forged(STEP, 0, &five), ERR_FORMAT);
    assert_int_equal(load_forged(SPEC, 0, NULL), ERR_FORMAT);
    assert_int_equal(load_forged(STEP, 0, NULL), ERR_FORMAT);
    assert_int_equal(load_forged(PROT, 0, NULL), ERR_FORMAT);
    assert_int_equal(load_forged(PARM, 0, NULL), ERR_FORMAT);
}

/* What a file gives that was written before there was section `id`; with one of another size it is refused. */
static struct model *load_older(uint32_t id)
{
    static const uint32_t six[6] = {1, 2, 3, 4, 5, 6};
    struct container_section all[CONTAINER_MAX_SECTIONS];
    struct container *c;
    struct model *m = make(), *n;
    assert_int_equal(model_save(m, path, NULL), 0);
    model_release(m);
    assert_int_equal(container_read(&c, path, CONTAINER_MODEL), 0);
    int count = container_sections(c, all), at = 0;
    while (at < count && all[at].id != id)
        at++;
    assert_true(at < count);
    all[at] = (struct container_section){id, sizeof six, six};
    assert_int_equal(container_write(path, CONTAINER_MODEL, all, count, NULL), 0);
    assert_int_equal(model_load(&n, path, CONV_ISA_BASELINE), ERR_FORMAT);
    all[at] = all[count - 1];
    assert_int_equal(container_write(path, CONTAINER_MODEL, all, count - 1, NULL), 0);
    container_free(c);
    assert_int_equal(model_load(&n, path, CONV_ISA_BASELINE), 0);
    return n;
}

static void test_older_files(void **state)
{
    (void)state;
    static const uint32_t none[5];
    const struct model_view plain = {0, 1};
    struct model *m = load_older(CONTAINER_ID('S', 'E', 'E', 'N'));
    assert_memory_equal(m->images, none, sizeof none);
    model_release(m);
    m = load_older(CONTAINER_ID('V', 'I', 'E', 'W'));
    assert_memory_equal(&m->view, &plain, sizeof plain);
    model_release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_refuses_bad_steps),
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_file_round_trip),
        cmocka_unit_test(test_save_refuses_what_load_would),
        cmocka_unit_test(test_load_refuses_forged_sections),
        cmocka_unit_test(test_older_files),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
