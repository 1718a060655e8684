/*
 * test_learner.c - increments end to end: learning, reproducing,
 * stopping and going on, cancelling, refusing.
 */
#include "tests/unit/core/learner_fixture.h"

/* Two increments for one set of options; checks what must hold for any. */
static void check_two_steps(struct place *p, struct learner_options *o)
{
    struct learner_result first, second;
    assert_int_equal(run(p, o, 0, NULL, &first), 0);
    assert_true(evaluation_accuracy(&first.dense) > 0.9);
    assert_int_equal(run(p, o, 1, first.model, &second), 0);
    assert_false(p->fraction_fell);
    assert_int_equal(second.dense.classes, CLASSES);
    assert_int_equal(evaluation_total(&second.dense, 0), 20);
    assert_int_equal(second.model->step_count, 2);
    assert_int_equal(second.model->step_end[0], 2);
    assert_true(second.snapshot_bytes < second.dense_bytes / 2);
    assert_true(second.sparsity > 0.4 && second.sparsity < 0.5);
    assert_true(isfinite(p->last_epoch.loss_class));
    learner_result_release(&first);
    learner_result_release(&second);
}

static void test_two_steps_with_defaults(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    check_two_steps(p, &o);
    assert_true(p->last_epoch.loss_mmd > 0);
    assert_true(p->last_epoch.loss_ad > 0);
}

/* The other architecture goes through the same calls: 512 features, three taps. */
static void test_two_steps_of_resnet18(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct model *m;
    p->side = 32;
    o.arch = RESNET_18;
    o.blocks = 2;
    o.prune_epochs = 1;
    check_two_steps(p, &o);
    assert_true(p->last_epoch.loss_mmd > 0 && p->last_epoch.loss_ad > 0);
    assert_int_equal(snapshot_load(&m, p->snapshot[1], conv_isa_best()), 0);
    assert_int_equal(m->net->spec.arch, RESNET_18);
    assert_int_equal(m->net->feature_count, 512);
    double squares = 0;
    for (int f = 0; f < 512; f++)
        squares += pow(m->prototypes[f], 2); /* carried over */
    assert_true(squares > 0.1 && squares < 2); /* a mean of unit vectors, carried */
    model_release(m);
}

static void test_every_form_of_the_loss(void **state)
{
    struct place *p = *state;
    for (int form = 0; form < 32; form++) {
        struct learner_options o = options();
        o.loss = form & 1 ? LOSS_SOFTMAX : LOSS_SIGMOID;
        o.teachers = form & 2 ? TEACHERS_LAST : TEACHERS_ALL;
        o.aux = form & 4;
        o.teachers_per_image = form & 8 ? 1 : 0;
        o.feature_weight = form & 16 ? 1 : 0;
        o.classifier = form & 1 ? CLASSIFIER_HEAD : CLASSIFIER_PROTOTYPES;
        check_two_steps(p, &o);
        assert_true(p->last_epoch.loss_mmd > 0);
        assert_true((p->last_epoch.loss_ad > 0) == (o.aux || o.feature_weight > 0));
    }
}

/* How far the features have turned from the first step's when the second is learned. */
static double turned(struct place *p, float weight)
{
    struct learner_options o = options();
    o.aux = false;
    o.feature_weight = weight;
    check_two_steps(p, &o);
    return p->last_epoch.loss_ad / weight;
}

static void test_features_are_held(void **state)
{
    double loosely = turned(*state, 0.01f), tightly = turned(*state, 10);
    assert_true(tightly > 0 && tightly < 0.5 * loosely);
}

/* Rounded operands: another path of the numbers, as good a model. Serving is fp32 in any case. */
static void test_bf16_learns_as_well(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    o.precision = CONV_BF16;
    if (!conv_precision_available(CONV_BF16, conv_isa_best()))
        skip();
    check_two_steps(p, &o);
}

static void test_finetune_has_no_teachers(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    o.method = METHOD_FINETUNE;
    check_two_steps(p, &o);
    assert_true(p->last_epoch.loss_mmd == 0 && p->last_epoch.loss_ad == 0);
}

/* LwF.MC's head: trained with outputs for classes to come, published without them. */
static void test_reserve_leaves_no_trace_in_the_model(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct model *m;
    o.head_reserve = 9;
    o.teachers = TEACHERS_LAST;
    o.aux = false;
    o.sgd.lr *= 9;
    check_two_steps(p, &o);
    assert_true(p->last_epoch.loss_mmd > 0);
    assert_int_equal(model_load(&m, p->model[1], conv_isa_best()), 0);
    assert_int_equal(m->net->spec.classes, CLASSES);
    model_release(m);
    assert_int_equal(snapshot_load(&m, p->snapshot[1], conv_isa_best()), 0);
    assert_int_equal(m->net->spec.classes, CLASSES);
    model_release(m);
}

/* Fewer outputs in reserve than there are classes: none. */
static void test_outgrown_reserve(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    o.head_reserve = 3;
    o.sgd.lr *= 4;
    check_two_steps(p, &o);
}

/* The second step of a frozen network moves no weight, and its old prototypes stay where they are. */
static void test_frozen_only_adds_prototypes(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, second;
    o.method = METHOD_FROZEN;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    p->epochs = 0;
    assert_int_equal(run(p, &o, 1, first.model, &second), 0);
    assert_int_equal(p->epochs, 0);
    assert_false(p->fraction_fell);
    const struct model *a = first.model, *b = second.model;
    const struct param_entry *head = &a->net->params.entries[a->net->head_weight[0]];
    assert_memory_equal(a->params, b->params, head->offset * sizeof *a->params);
    for (int f = 0; f < 2 * a->net->feature_count; f++)
        assert_true(fabsf(a->prototypes[f] - b->prototypes[f]) < 1e-4f);
    assert_true(evaluation_accuracy(&second.dense) > 0.5);
    o.classifier = CLASSIFIER_HEAD;
    assert_int_equal(run(p, &o, 1, first.model, &second), ERR_INVALID);
    learner_result_release(&first);
    learner_result_release(&second);
}

static const float *biases(const struct model *m, int head)
{
    return m->params + m->net->params.entries[m->net->head_bias[head]].offset;
}

/* Whether the rows of an auxiliary head are zeros from `first` on. */
static bool idle(const struct model *m, int head, int first)
{
    const struct param_entry *e = &m->net->params.entries[m->net->head_weight[head]];
    for (size_t i = (size_t)(first * m->net->head_features[head]); i < e->count; i++)
        if (m->params[e->offset + i] != 0)
            return false;
    for (int c = first; c < m->net->spec.classes; c++)
        if (biases(m, head)[c] != 0)
            return false;
    return true;
}

/* Three new classes at a learning rate that moves nothing: what they began with, after two classes that stay as they were. Heads that nobody
 * trains have zeros. */
static void test_new_outputs_begin_at_the_prior(void **state)
{
    struct place *p = *state;
    for (int form = 0; form < 4; form++) {
        struct learner_options o = options();
        struct learner_result first, second;
        struct dataset train, none = {.height = 8, .width = 8, .channels = CHANNELS};
        struct learner_job job;
        assert_int_equal(run(p, &o, 0, NULL, &first), 0);
        o.epochs = 1;
        o.prune_epochs = 0;
        o.sgd.lr = 1e-6f;
        o.loss = form == 1 ? LOSS_SOFTMAX : LOSS_SIGMOID;
        o.head_reserve = form == 2 ? 9 : 0;
        o.aux = form != 3;
        make_data(&train, p->side, 2, 5, PER_CLASS, 1);
        job = job_at(p, &o, 1, first.model);
        job.train = &train;
        job.test = &none;
        job.classes = 5;
        assert_int_equal(run_job(&job, &second), 0);
        double prior = form == 0 || form == 3 ? -log(2) : 0; /* one of the three: 1/3 */
        assert_true(idle(first.model, 1, 0)); /* learned without */
        assert_int_equal(idle(second.model, 1, 2), form == 3);
        for (int head = 0; head < (o.aux ? second.model->net->head_count : 1); head++) {
            for (int c = 0; c < 2; c++)
                assert_float_equal(biases(second.model, head)[c], biases(first.model, head)[c], 1e-3);
            for (int c = 2; c < 5; c++)
                assert_float_equal(biases(second.model, head)[c], prior, 1e-3);
        }
        dataset_release(&train);
        learner_result_release(&first);
        learner_result_release(&second);
    }
}

/* Distillation must do what it is for: keep the old classes' logits where they were. */
static void test_distillation_remembers(void **state)
{
    struct place *p = *state;
    double kept[2];
    for (int method = 0; method < 2; method++) {
        struct learner_result first, second;
        struct learner_options o = options();
        o.classifier = CLASSIFIER_HEAD;
        o.lr_later = 1;
        o.method = method ? METHOD_M2KD : METHOD_FINETUNE;
        assert_int_equal(run(p, &o, 0, NULL, &first), 0);
        assert_int_equal(run(p, &o, 1, first.model, &second), 0);
        kept[method] = 0;
        for (int c = 0; c < 2; c++)
            kept[method] += evaluation_correct(&second.dense, c) / 40.0;
        learner_result_release(&first);
        learner_result_release(&second);
    }
    assert_true(kept[1] > kept[0] + 0.1);
}

static void test_files_are_the_models(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r;
    struct model *m;
    assert_int_equal(run(p, &o, 0, NULL, &r), 0);
    assert_int_equal(model_load(&m, p->model[0], conv_isa_best()), 0);
    same_params(m, r.model);
    model_release(m);
    assert_int_equal(snapshot_load(&m, p->snapshot[0], conv_isa_best()), 0);
    struct frozen *f;
    struct gang *g;
    struct evaluation e;
    struct dataset test;
    make_data(&test, p->side, 0, 2, 20, 2);
    assert_int_equal(gang_new(&g, 1, 0), 0);
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(evaluate(1, &e, &f, &test, g, NULL), 0);
    assert_memory_equal(e.confusion, r.pruned.confusion, 4 * sizeof *e.confusion);
    evaluation_release(&e);
    dataset_release(&test);
    frozen_free(f);
    gang_free(g);
    model_release(m);
    learner_result_release(&r);
}

/* Stopped after every possible epoch in turn and resumed: the same bits as without a stop. */
static void test_resumed_is_bit_identical(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result base, whole;
    struct model *snapshot;
    assert_int_equal(run(p, &o, 0, NULL, &base), 0);
    assert_int_equal(run(p, &o, 1, base.model, &whole), 0);
    assert_int_equal(snapshot_load(&snapshot, p->snapshot[1], conv_isa_best()), 0);
    for (int stop = 1; stop <= o.epochs + o.prune_epochs; stop++)
        check_resumed(p, &o, stop, base.model, whole.model, snapshot);
    model_release(snapshot);
    learner_result_release(&base);
    learner_result_release(&whole);
}

/* Until the caller has stored what was learned the job may have to run again: without one epoch more, to the same bits. */
static void test_done_is_not_trained_again(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result base, done, again;
    struct model *before, *after;
    assert_int_equal(run(p, &o, 0, NULL, &base), 0);
    p->keep_checkpoint = true;
    for (o.prune_epochs = 0; o.prune_epochs < 2; o.prune_epochs++) {
        assert_int_equal(run(p, &o, 1, base.model, &done), 0);
        assert_false(done.resumed);
        assert_int_equal(snapshot_load(&before, p->snapshot[1], conv_isa_best()), 0);
        p->epochs = 0;
        assert_int_equal(run(p, &o, 1, base.model, &again), 0);
        assert_true(again.resumed && again.reproducible);
        assert_int_equal(p->epochs, 0);
        assert_false(p->fraction_fell);
        same_params(again.model, done.model);
        assert_memory_equal(again.dense.confusion, done.dense.confusion,
                            CLASSES * CLASSES * sizeof *done.dense.confusion);
        assert_int_equal(snapshot_load(&after, p->snapshot[1], conv_isa_best()), 0);
        same_params(after, before);
        model_release(before);
        model_release(after);
        learner_result_release(&done);
        learner_result_release(&again);
    }
    learner_result_release(&base);
}

/* Nor once it goes on with that gang again: the epochs before were another's. */
static void test_other_gang_is_not_called_reproducible(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r;
    p->then = COMMAND_STOP;
    for (int stops = 1; stops <= 2; stops++) {
        p->stop_after = stops * 2;
        assert_int_equal(run(p, &o, 0, NULL, &r), ERR_STOPPED);
        atomic_store(&p->command, COMMAND_RUN);
        o.gang = 1;
    }
    assert_int_equal(run(p, &o, 0, NULL, &r), 0);
    assert_true(r.resumed && !r.reproducible);
    learner_result_release(&r);
}

static void test_foreign_checkpoint_is_ignored(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r;
    p->stop_after = 2;
    p->then = COMMAND_STOP;
    assert_int_equal(run(p, &o, 0, NULL, &r), ERR_STOPPED);
    atomic_store(&p->command, COMMAND_RUN);
    o.seed++;
    assert_int_equal(run(p, &o, 0, NULL, &r), 0);
    assert_false(r.resumed);
    learner_result_release(&r);
}

static void test_cancel_leaves_nothing(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r;
    p->stop_after = 3;
    p->then = COMMAND_CANCEL;
    assert_int_equal(run(p, &o, 0, NULL, &r), ERR_CANCELLED);
    assert_int_not_equal(access(p->checkpoint, F_OK), 0);
    assert_int_not_equal(access(p->model[0], F_OK), 0);
}

static void test_divergence_is_an_error(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r;
    o.loss = LOSS_SOFTMAX;
    o.sgd.lr = 100;
    o.sgd.weight_decay = 1;
    o.epochs = 50;
    int err = run(p, &o, 0, NULL, &r);
    assert_int_equal(err, ERR_DIVERGED);
    assert_int_not_equal(access(p->model[0], F_OK), 0);
}

static void test_bad_jobs_are_refused(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r;
    const char *bad = NULL;
    o.prune_keep = 0;
    assert_int_equal(learner_options_check(&o, &bad), ERR_INVALID);
    assert_string_equal(bad, "prune.keep");
    assert_int_equal(run(p, &o, 0, NULL, &r), ERR_INVALID);
    o = options();
    o.sgd.lr = NAN;
    assert_int_equal(learner_options_check(&o, &bad), ERR_INVALID);
    assert_string_equal(bad, "lr");
    o = options();
    o.loss = LOSS_SOFTMAX;
    o.head_reserve = 8;
    assert_int_equal(learner_options_check(&o, &bad), ERR_INVALID);
    assert_string_equal(bad, "head.reserve");
    o = options();
    assert_int_equal(run(p, &o, 1, NULL, &r), ERR_INVALID); /* classes 0 and 1 have no image */
}

/* Images of another shape than the base's, and test images that cannot be measured, are found before anything is trained. */
static void test_data_of_another_shape_is_refused(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, r;
    struct dataset train, test, wide, none;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    p->epochs = 0;
    make_data(&train, 8, 2, 4, PER_CLASS, 1);
    make_data(&test, 8, 0, 4, 1, 2);
    make_data(&wide, 32, 2, 4, PER_CLASS, 2);
    assert_int_equal(dataset_init(&none, 0, 32, 32, 1), 0);
    struct learner_job job = job_at(p, &o, 1, first.model);
    job.classes = 4;
    job.train = &wide;
    job.test = &none;
    assert_int_equal(learner_run(&job, &r), ERR_INVALID);
    job.train = &train;
    job.test = &wide;
    assert_int_equal(learner_run(&job, &r), ERR_INVALID);
    job.base = NULL;
    job.classes = 2;
    for (int i = 0; i < train.count; i++)
        train.labels[i] -= 2;
    assert_int_equal(learner_run(&job, &r), ERR_INVALID);
    job.test = &test; /* of four classes */
    assert_int_equal(learner_run(&job, &r), ERR_INVALID);
    for (int i = 0; i < test.count; i++)
        test.labels[i] = -1;
    assert_int_equal(learner_run(&job, &r), ERR_INVALID);
    assert_int_equal(p->epochs, 0);
    job.test = &none; /* no image, no shape */
    assert_int_equal(learner_run(&job, &r), 0);
    dataset_release(&train);
    dataset_release(&test);
    dataset_release(&wide);
    dataset_release(&none);
    learner_result_release(&first);
    learner_result_release(&r);
}

/* What teaches must be of the student's network, and know the classes the student knew, no more and no fewer. */
static void test_teachers_of_another_network_are_refused(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r;
    static const int two[] = {2}, three[] = {3}, most[] = {RESNET_MAX_CLASSES};
    struct resnet_spec spec = {.blocks = 1, .channels = 3, .height = 8, .width = 8, .classes = 2};
    struct model *base = make_model(&spec, two, 1);
    for (int form = 0; form < 4; form++) {
        o.teachers = form & 1 ? TEACHERS_LAST : TEACHERS_ALL;
        o.feature_weight = form & 2 ? 1 : 0;
        spec.classes = RESNET_MAX_CLASSES;
        put_snapshot(p->snapshot[0], &spec, most, 1, base);
        assert_int_equal(run(p, &o, 1, base, &r), ERR_FORMAT);
        spec.classes = 3;
        put_snapshot(p->snapshot[0], &spec, three, 1, base);
        assert_int_equal(run(p, &o, 1, base, &r), ERR_FORMAT);
    }
    model_release(base);

    /* With taps, of which the other architecture has one more. */
    p->side = 32;
    spec = (struct resnet_spec){.blocks = 2, .channels = 3, .height = 32, .width = 32,
                                .classes = 2, .arch = RESNET_18};
    base = make_model(&spec, two, 1);
    spec.arch = RESNET_CIFAR;
    put_snapshot(p->snapshot[0], &spec, two, 1, base);
    o.feature_weight = 0;
    o.aux = true;
    o.epochs = 1;
    assert_int_equal(run(p, &o, 1, base, &r), ERR_FORMAT);
    model_release(base);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_two_steps_with_defaults),
        TEST(test_two_steps_of_resnet18),
        TEST(test_every_form_of_the_loss),
        TEST(test_bf16_learns_as_well),
        TEST(test_features_are_held),
        TEST(test_finetune_has_no_teachers),
        TEST(test_reserve_leaves_no_trace_in_the_model),
        TEST(test_outgrown_reserve),
        TEST(test_frozen_only_adds_prototypes),
        TEST(test_new_outputs_begin_at_the_prior),
        TEST(test_distillation_remembers),
        TEST(test_files_are_the_models),
        TEST(test_resumed_is_bit_identical),
        TEST(test_done_is_not_trained_again),
        TEST(test_other_gang_is_not_called_reproducible),
        TEST(test_foreign_checkpoint_is_ignored),
        TEST(test_cancel_leaves_nothing),
        TEST(test_divergence_is_an_error),
        TEST(test_bad_jobs_are_refused),
        TEST(test_data_of_another_shape_is_refused),
        TEST(test_teachers_of_another_network_are_refused),
    };
#if defined(__SANITIZE_THREAD__) /* the others run the same threads again, twenty times slower */
    cmocka_set_test_filter("test_two_steps_with_defaults");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
