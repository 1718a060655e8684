/* What evaluation keeps of the scores beside counting: of every n-th image, as evaluate_features gives them. */
#include "tests/unit/core/learner_fixture.h"

static void check_sample(int per_class, int stride)
{
    const struct resnet_spec spec = {
        .arch = RESNET_CIFAR, .blocks = 1, .channels = CHANNELS, .height = 8, .width = 8, .classes = CLASSES};
    const int end = CLASSES;
    struct model *m = make_model(&spec, &end, 1);
    struct dataset d;
    struct frozen *f;
    struct gang *g;
    struct evaluation e;
    uint32_t counted = 0;
    make_data(&d, 8, 0, CLASSES, per_class, 1);
    float *features = malloc((size_t)d.count * (size_t)m->net->feature_count * sizeof *features);
    float *scores = malloc((size_t)d.count * CLASSES * sizeof *scores);
    assert_true(features && scores);
    assert_int_equal(gang_new(&g, 2, 0), 0);
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(evaluate(1, &e, &f, &d, g, NULL), 0);
    assert_int_equal(evaluate_features(f, &d, g, NULL, features, scores), 0);
    assert_int_equal(e.sampled, (d.count + stride - 1) / stride);
    for (int i = 0; i < e.sampled; i++) {
        assert_int_equal(e.labels[i], d.labels[i * stride]);
        assert_memory_equal(e.scores + i * CLASSES, scores + i * stride * CLASSES, CLASSES * sizeof *scores);
    }
    for (int c = 0; c < CLASSES; c++)
        counted += evaluation_total(&e, c);
    assert_int_equal(counted, d.count);
    evaluation_release(&e);
    frozen_free(f);
    gang_free(g);
    free(features);
    free(scores);
    dataset_release(&d);
    model_release(m);
}

static void test_all_of_few(void **state)
{
    (void)state;
    check_sample(3, 1);
    check_sample(EVALUATION_SAMPLE / CLASSES, 1);
}

static void test_every_nth_of_many(void **state)
{
    (void)state;
    check_sample(EVALUATION_SAMPLE / CLASSES + 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_few),
        cmocka_unit_test(test_every_nth_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
