/*
 * test_predictor.c - answers of a serving, and that a swap leaves the ones in hand alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "server/app.h"
#include "server/jobs/predictor.h"
#include "server/log.h"

enum { CLASSES = 5 };

/* An untrained network with head biases that fix the order of the answers. */
static struct serving *make_serving(int64_t version, const float *bias)
{
    static const char *const names[CLASSES] = {"ant", "bee", "cat", "dog", "emu"};
    const struct resnet_spec spec = {1, 3, 8, 8, CLASSES};
    const int step_end[] = {CLASSES};
    struct model *m;
    struct serving *s;
    assert_int_equal(model_new(&m, &spec, step_end, 1, CONV_ISA_BASELINE), 0);
    resnet_initialise(m->net, 1, m->params);
    const struct param_entry *head = &m->net->params.entries[m->net->head_weight[0]];
    memset(m->params + head->offset, 0, head->count * sizeof *m->params);
    head = &m->net->params.entries[m->net->head_bias[0]];
    memcpy(m->params + head->offset, bias, CLASSES * sizeof *bias);
    for (int c = 0; c < 3; c++)
        m->std[c] = 1;
    m->classifier = CLASSIFIER_HEAD;
    m->score_scale = 1;
    assert_int_equal(serving_new(&s, version, m, names), 0);
    model_release(m);
    return s;
}

static const float order[CLASSES] = {0, 3, 1, 3, 2}; /* bee and dog are equal */

static void test_top(void **state)
{
    (void)state;
    uint8_t pixels[16 * 16];
    struct image img = {16, 16, 1, pixels}; /* another size, and grey: it is fitted */
    struct prediction top[10];
    int count;
    memset(pixels, 90, sizeof pixels);
    struct serving *s = make_serving(1, order);
    assert_int_equal(serving_classify(s, &img, 3, top, &count), 0);
    assert_int_equal(count, 3);
    assert_int_equal(top[0].class_index, 1);
    assert_int_equal(top[1].class_index, 3);
    assert_int_equal(top[2].class_index, 4);
    assert_int_equal(serving_classify(s, &img, 10, top, &count), 0);
    assert_int_equal(count, CLASSES);
    assert_int_equal(top[3].class_index, 2);
    assert_int_equal(top[4].class_index, 0);
    float sum = 0;
    for (int i = 0; i < count; i++)
        sum += top[i].score;
    assert_true(sum > 0.9999f && sum < 1.0001f);
    assert_string_equal(s->class_names[4], "emu");
    serving_release(s);
}

static void test_swap(void **state)
{
    (void)state;
    struct app app = {0};
    struct predictor *p;
    uint8_t pixels[8 * 8 * 3] = {0};
    struct image img = {8, 8, 3, pixels};
    struct prediction top;
    int count;
    log_set_level("error");
    assert_int_equal(predictor_new(&p, &app), 0);
    assert_null(predictor_active(p));
    predictor_swap(p, make_serving(1, order));
    struct serving *held = predictor_active(p);
    assert_int_equal(held->version, 1);
    predictor_swap(p, make_serving(2, order));
    assert_int_equal(serving_classify(held, &img, 1, &top, &count), 0); /* still whole */
    assert_int_equal(top.class_index, 1);
    serving_release(held);
    held = predictor_active(p);
    assert_int_equal(held->version, 2);
    predictor_free(p);
    assert_int_equal(serving_classify(held, &img, 1, &top, &count), 0);
    serving_release(held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top),
        cmocka_unit_test(test_swap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
