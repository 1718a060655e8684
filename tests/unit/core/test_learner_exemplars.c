/*
 * test_learner_exemplars.c - images that are kept: which, that they are replayed, what that settles, and the alignment of the head.
 */
#include "tests/unit/core/learner_fixture.h"

/* Step 1 with exemplars of step 0, as the first step's result names them. */
static int run_with_exemplars(struct place *p, const struct learner_options *o, const struct learner_result *first,
                              int end, struct learner_result *result)
{
    struct dataset old, fresh, all, test;
    make_data(&old, p->side, 0, 2, PER_CLASS, 1);
    make_data(&fresh, p->side, 2, end, PER_CLASS, 1);
    make_data(&test, p->side, 0, end, 20, 2);
    size_t image = (size_t)p->side * p->side * CHANNELS;
    assert_int_equal(dataset_init(&all, fresh.count + first->kept_count, p->side, p->side, CHANNELS), 0);
    memcpy(all.pixels, fresh.pixels, image * fresh.count);
    memcpy(all.labels, fresh.labels, fresh.count * sizeof *all.labels);
    for (int i = 0; i < first->kept_count; i++) {
        memcpy(all.pixels + image * (fresh.count + i), old.pixels + image * first->kept[i], image);
        all.labels[fresh.count + i] = old.labels[first->kept[i]];
    }
    struct learner_job job = job_at(p, o, 1, first->model);
    job.train = &all;
    job.exemplars = first->kept_count;
    job.test = &test;
    job.classes = end;
    int err = run_job(&job, result);
    dataset_release(&old);
    dataset_release(&fresh);
    dataset_release(&all);
    dataset_release(&test);
    return err;
}

static double old_accuracy(const struct learner_result *r)
{
    return (evaluation_correct(&r->dense, 0) + evaluation_correct(&r->dense, 1)) / 40.0;
}

/* Kept, replayed and kept again: of each class as many, of the old ones the first of those there were. */
static void test_exemplars_are_kept_and_replayed(void **state)
{
    struct place *p = *state;
    for (int form = 0; form < 4; form++) {
        struct learner_options o = options();
        struct learner_result first, second, without;
        int counts[CLASSES] = {0};
        o.method = METHOD_FINETUNE; /* that nothing else remembers */
        o.loss = form & 1 ? LOSS_SOFTMAX : LOSS_SIGMOID;
        o.classifier = form == 1 ? CLASSIFIER_HEAD : CLASSIFIER_DISCRIMINANT;
        o.exemplars_select = form & 2 ? EXEMPLARS_RANDOM : EXEMPLARS_HERDING;
        o.exemplars_total = 22;
        o.lr_later = 1;
        assert_int_equal(run(p, &o, 0, NULL, &first), 0);
        assert_int_equal(first.kept_count, 22);
        for (int i = 0; i < 22; i++)
            assert_true(first.kept[i] % 2 == i / 11); /* make_data's labels alternate */
        assert_int_equal(run_with_exemplars(p, &o, &first, CLASSES, &second), 0);
        assert_int_equal(second.kept_count, 4 * 5);
        int fresh = 2 * PER_CLASS;
        for (int i = 0; i < second.kept_count; i++)
            counts[second.kept[i] >= fresh ? (second.kept[i] - fresh) / 11 : 2 + second.kept[i] % 2]++;
        for (int c = 0; c < CLASSES; c++)
            assert_int_equal(counts[c], 5);
        for (int i = 0; i < 5; i++)
            assert_int_equal(second.kept[i], fresh + i);
        assert_int_equal(run(p, &o, 1, first.model, &without), 0);
        if (o.classifier == CLASSIFIER_HEAD)
            assert_true(old_accuracy(&second) > old_accuracy(&without) + 0.2);
        assert_true(old_accuracy(&second) > 0.6);
        learner_result_release(&first);
        learner_result_release(&second);
        learner_result_release(&without);
    }
}

/* Without teachers where experts hold what is old and every class that is not retired is replayed; else with them; and what was asked for. */
static void test_method_is_settled(void **state)
{
    struct place *p = *state;
    const struct resnet_spec spec = {
        .arch = RESNET_CIFAR, .blocks = 1, .channels = CHANNELS, .height = 8, .width = 8, .classes = 2};
    const int end = 2;
    struct model *base = make_model(&spec, &end, 1);
    struct dataset d; /* of classes 0 and 1, alternately */
    struct learner_options o = options();
    make_data(&d, p->side, 0, 2, 10, 1);
    static const struct {
        enum learner_method asked;
        enum classifier classifier;
        int experts, exemplars;
        bool first, retired;
        enum learner_method want;
    } cases[] = {
        {METHOD_AUTO, CLASSIFIER_DISCRIMINANT, 9, 4, false, false, METHOD_FINETUNE},
        {METHOD_AUTO, CLASSIFIER_PROTOTYPES, 1, 2, false, false, METHOD_FINETUNE},
        {METHOD_AUTO, CLASSIFIER_DISCRIMINANT, 9, 1, false, false, METHOD_M2KD}, /* of class 1 alone */
        {METHOD_AUTO, CLASSIFIER_DISCRIMINANT, 9, 1, false, true, METHOD_FINETUNE}, /* the other is retired */
        {METHOD_AUTO, CLASSIFIER_DISCRIMINANT, 9, 0, false, false, METHOD_M2KD},
        {METHOD_AUTO, CLASSIFIER_DISCRIMINANT, 0, 4, false, false, METHOD_M2KD},
        {METHOD_AUTO, CLASSIFIER_HEAD, 9, 4, false, false, METHOD_M2KD},
        {METHOD_AUTO, CLASSIFIER_DISCRIMINANT, 9, 0, true, false, METHOD_M2KD},
        {METHOD_M2KD, CLASSIFIER_DISCRIMINANT, 9, 4, false, false, METHOD_M2KD},
        {METHOD_FROZEN, CLASSIFIER_DISCRIMINANT, 9, 4, false, false, METHOD_FROZEN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.method = cases[i].asked;
        o.classifier = cases[i].classifier;
        o.experts = cases[i].experts;
        base->retired[0] = cases[i].retired;
        learner_settle_method(&o, &d, cases[i].exemplars, cases[i].first ? NULL : base);
        assert_int_equal(o.method, cases[i].want);
    }
    struct learner_result r;
    o = options();
    o.method = METHOD_AUTO;
    assert_int_equal(run(p, &o, 0, NULL, &r), ERR_INVALID); /* unsettled */
    dataset_release(&d);
    model_release(base);
}

static double row_norms(const struct model *m, int first, int end)
{
    const struct param_entry *e = &m->net->params.entries[m->net->head_weight[0]];
    double sum = 0;
    for (int c = first; c < end; c++) {
        double squares = 0;
        for (int f = 0; f < m->net->feature_count; f++)
            squares += pow(m->params[e->offset + (size_t)(c * m->net->feature_count + f)], 2);
        sum += sqrt(squares) / (end - first);
    }
    return sum;
}

/* One class more, in softmax form: with exemplars that is something to learn. Aligned, new rows are as long as old ones. */
static void test_weight_alignment(void **state)
{
    struct place *p = *state;
    struct learner_result first, second;
    struct learner_options o = options();
    o.loss = LOSS_SOFTMAX;
    o.classifier = CLASSIFIER_HEAD;
    o.exemplars_total = 20;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    for (int align = 0; align < 2; align++) {
        o.weight_align = align;
        assert_int_equal(run_with_exemplars(p, &o, &first, 3, &second), 0);
        double ratio = row_norms(second.model, 2, 3) / row_norms(second.model, 0, 2);
        assert_true((fabs(ratio - 1) < 1e-4) == align);
        learner_result_release(&second);
    }
    learner_result_release(&first);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exemplars_are_kept_and_replayed),
        TEST(test_method_is_settled),
        TEST(test_weight_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
