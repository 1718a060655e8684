/*
 * test_objective.c - the classification loss of a slice against its formula written out plainly, with logits put in by hand; with
 * teachers: test_objective_teachers.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/learner/objective.h"
#include "core/model/train.h"

enum { OUTPUTS = 6, OLD = 2, CLASSES = 4, N = 3 };

struct bench {
    struct resnet *net;
    struct gang *gang;
    struct train *train;
    struct learner_options options;
    struct objective objective;
    int labels[N];
};

static float logit(int head, int i, int c)
{
    return (float)sin(1 + 7 * head + 3 * i + 2 * c) * 2;
}

static int setup(void **state)
{
    static struct bench b;
    const struct resnet_spec spec = {
        .arch = RESNET_CIFAR, .blocks = 1, .channels = 1, .height = 8, .width = 8,
        .classes = OUTPUTS};
    assert_int_equal(resnet_new(&b.net, &spec, conv_isa_best()), 0);
    assert_int_equal(gang_new(&b.gang, 1, 0), 0);
    assert_int_equal(train_new(&b.train, b.net, b.gang, N, NULL), 0);
    for (int h = 0; h < b.net->head_count; h++)
        for (int i = 0; i < N; i++) {
            memset(train_dlogits(b.train, h, i), 0, OUTPUTS * sizeof(float));
            for (int c = 0; c < OUTPUTS; c++)
                train_logits(b.train, h, i)[c] = logit(h, i, c);
        }
    learner_options_default(&b.options);
    b.options.aux = false;
    b.objective = (struct objective){.options = &b.options,
                                     .old_classes = OLD,
                                     .classes = CLASSES,
                                     .outputs = OUTPUTS,
                                     .heads = b.net->head_count};
    for (int i = 0; i < N; i++)
        b.labels[i] = OLD + i % (CLASSES - OLD);
    *state = &b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    train_free(b->train);
    gang_free(b->gang);
    resnet_free(b->net);
    return 0;
}

/* Sum over images of the sigmoid form on the columns from OLD on. */
static double plain_sigmoid(const struct bench *b, int head)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        for (int c = OLD; c < OUTPUTS; c++) {
            double p = 1 / (1 + exp(-(double)logit(head, i, c)));
            sum -= b->labels[i] == c ? log(p) : log(1 - p);
        }
    return sum;
}

/* LwF.MC: means over batch and outputs, and 0 is the target of what has not been seen yet. */
static void test_reserve_is_a_mean_over_all_outputs(void **state)
{
    struct bench *b = *state;
    struct objective_sums sums = {0};
    b->options.head_reserve = OUTPUTS;
    objective_slice(&b->objective, b->train, 0, N, N, b->labels, &sums);
    assert_true(fabs(sums.loss_class - plain_sigmoid(b, 0) / OUTPUTS) < 1e-6);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < OUTPUTS; c++) {
            double p = 1 / (1 + exp(-(double)logit(0, i, c)));
            double expected = c < OLD ? 0 : (p - (b->labels[i] == c)) / (N * OUTPUTS);
            assert_true(fabs(train_dlogits(b->train, 0, i)[c] - expected) < 1e-7);
        }
}

/* Accuracy is among the classes there are: an output in reserve never wins. */
static void test_reserve_is_never_the_answer(void **state)
{
    struct bench *b = *state;
    struct objective_sums sums = {0};
    b->options.head_reserve = OUTPUTS;
    for (int i = 0; i < N; i++) {
        train_logits(b->train, 0, i)[OUTPUTS - 1] = 50;
        train_logits(b->train, 0, i)[b->labels[i]] = 40;
    }
    objective_slice(&b->objective, b->train, 0, N, N, b->labels, &sums);
    assert_int_equal(sums.correct, N);
    assert_int_equal(sums.count, N);
}

/* With exemplars the softmax runs over all columns, an old class's image included; without, over the new ones. */
static void test_softmax_takes_old_classes_in(void **state)
{
    struct bench *b = *state;
    b->options.loss = LOSS_SOFTMAX;
    for (int exemplars = 0; exemplars < 2; exemplars++) {
        struct objective_sums sums = {0};
        double expected = 0;
        b->objective.exemplars = exemplars;
        b->labels[0] = exemplars ? 1 : OLD;
        objective_slice(&b->objective, b->train, 0, N, N, b->labels, &sums);
        for (int i = 0; i < N; i++) {
            double total = 0;
            for (int c = exemplars ? 0 : OLD; c < CLASSES; c++)
                total += exp((double)logit(0, i, c));
            expected -= log(exp((double)logit(0, i, b->labels[i])) / total);
        }
        assert_true(fabs(sums.loss_class - expected) < 1e-5);
        assert_int_equal(sums.count_new, exemplars ? N - 1 : N);
    }
}

/* An image of a known class, without exemplars: none of the new ones in the sigmoid form, left out of the softmax. */
static void test_known_class_is_no_label(void **state)
{
    struct bench *b = *state;
    struct objective_sums sums = {0};
    b->labels[1] = 0;
    objective_slice(&b->objective, b->train, 0, N, N, b->labels, &sums);
    assert_true(fabs(sums.loss_class - plain_sigmoid(b, 0)) < 1e-5);
    assert_int_equal(sums.count_new, N - 1);
    sums = (struct objective_sums){0};
    b->options.loss = LOSS_SOFTMAX;
    for (int i = 0; i < N; i++)
        memset(train_dlogits(b->train, 0, i), 0, OUTPUTS * sizeof(float));
    objective_slice(&b->objective, b->train, 0, N, N, b->labels, &sums);
    double expected = 0;
    for (int i = 0; i < N; i += 2)
        expected += log(exp((double)logit(0, i, 2)) + exp((double)logit(0, i, 3))) -
                    (double)logit(0, i, b->labels[i]);
    assert_true(fabs(sums.loss_class - expected) < 1e-5);
    for (int c = 0; c < OUTPUTS; c++)
        assert_true(train_dlogits(b->train, 0, 1)[c] == 0);
    assert_true(train_dlogits(b->train, 0, 0)[2] != 0);
}

/* The taps' classification counts aux_weight, each a sum over its columns and a mean over images. */
static void test_taps_weigh_as_said(void **state)
{
    struct bench *b = *state;
    struct objective_sums sums = {0};
    b->options.aux = true;
    b->options.aux_weight = 0.25f;
    objective_slice(&b->objective, b->train, 0, N, N, b->labels, &sums);
    double expected = plain_sigmoid(b, 0);
    for (int h = 1; h < b->net->head_count; h++)
        expected += 0.25 * plain_sigmoid(b, h);
    assert_true(fabs(sums.loss_class - expected) < 1e-5);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_reserve_is_a_mean_over_all_outputs),
        TEST(test_reserve_is_never_the_answer),
        TEST(test_softmax_takes_old_classes_in),
        TEST(test_known_class_is_no_label),
        TEST(test_taps_weigh_as_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
