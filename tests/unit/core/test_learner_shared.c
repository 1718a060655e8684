/*
 * test_learner_shared.c - increments whose snapshots share their weights (m2kd/snapshot.h).
 */
#include "tests/unit/core/learner_fixture.h"

#include "core/m2kd/mask.h"

static struct learner_options shared_options(void)
{
    struct learner_options o = options();
    o.store = STORE_SHARED;
    o.prune_keep = 0.3f;
    o.sgd.weight_decay = 5e-3f;
    return o;
}

/* Whether `m` has, bit for bit, the weights that the snapshot at `path` and those below it own. */
static void has_owned(const struct model *m, const char *path)
{
    struct model *below;
    uint8_t *owned;
    int count = 0;
    assert_int_equal(snapshot_load_owned(&below, &owned, path, conv_isa_best()), 0);
    for (size_t i = 0; i < m->net->params.count && i < below->net->params.count; i++) {
        if (owned[i] != MASK_OWNED)
            continue;
        assert_memory_equal(&m->params[i], &below->params[i], sizeof(float));
        count++;
    }
    assert_true(count > 10000);
    model_release(below);
    free(owned);
}

/* Training goes on, with momentum and decay, and what earlier steps own stays to the bit: in the dense model, and so in every
 * snapshot. The steps are learned all the same. */
static void test_owned_weights_never_move(void **state)
{
    struct place *p = *state;
    struct learner_options o = shared_options();
    struct learner_result first, second;
    struct model *before, *after, *snapshot;
    o.epochs = 6; /* four are short for the second step */
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    assert_int_equal(snapshot_load(&before, p->snapshot[0], conv_isa_best()), 0);
    assert_int_equal(run(p, &o, 1, first.model, &second), 0);
    has_owned(second.model, p->snapshot[0]);
    assert_int_equal(snapshot_load(&after, p->snapshot[0], conv_isa_best()), 0);
    same_params(before, after);
    assert_int_equal(snapshot_load(&snapshot, p->snapshot[1], conv_isa_best()), 0);
    has_owned(snapshot, p->snapshot[0]);
    assert_int_equal(snapshot->step_count, 2);
    /* 0.3 of all, then 0.3 of the rest; the first convolution is whole */
    assert_true(first.sparsity > 0.69 && first.sparsity < 0.7);
    assert_true(second.sparsity > 0.48 && second.sparsity < 0.49);
    assert_true(second.snapshot_bytes < first.snapshot_bytes);
    assert_true(evaluation_accuracy(&first.dense) > 0.9);
    for (int c = 2; c < CLASSES; c++) /* the free weights suffice for what is new */
        assert_true(evaluation_correct(&second.dense, c) >= 18);
    model_release(before);
    model_release(after);
    model_release(snapshot);
    learner_result_release(&first);
    learner_result_release(&second);
}

/* The snapshot at place `at` cannot be read without the one at `below`, or can. */
static void needs(struct place *p, int at, int below, bool needed)
{
    struct model *m;
    char away[128];
    snprintf(away, sizeof away, "%s/away", p->dir);
    assert_int_equal(rename(p->snapshot[below], away), 0);
    assert_int_equal(snapshot_load(&m, p->snapshot[at], conv_isa_best()), needed ? ERR_MISSING : 0);
    if (!needed)
        model_release(m);
    assert_int_equal(rename(away, p->snapshot[below]), 0);
}

/* A step that goes on alone from a shared one, and a shared one from that: each is what its options say. */
static void test_stores_may_follow_each_other(void **state)
{
    struct place *p = *state;
    struct learner_options shared = shared_options(), alone = shared_options();
    struct learner_result first, second, third;
    alone.store = STORE_STANDALONE;
    alone.prune_keep = 0.5f;
    assert_int_equal(run(p, &shared, 0, NULL, &first), 0);
    assert_int_equal(run(p, &shared, 1, first.model, &second), 0);
    needs(p, 1, 0, true);
    learner_result_release(&second);
    assert_int_equal(run(p, &alone, 1, first.model, &second), 0);
    needs(p, 1, 0, false);
    assert_int_equal(run(p, &shared, 2, second.model, &third), 0);
    needs(p, 2, 1, true);
    needs(p, 2, 0, false);
    has_owned(third.model, p->snapshot[1]);
    /* 0.3 of the half that the step alone left free */
    assert_true(third.sparsity > 0.34 && third.sparsity < 0.35);
    learner_result_release(&first);
    learner_result_release(&second);
    learner_result_release(&third);
}

static void test_resumed_is_bit_identical(void **state)
{
    struct place *p = *state;
    struct learner_options o = shared_options();
    struct learner_result base, whole;
    struct model *snapshot;
    o.epochs = 2;
    o.prune_epochs = 2;
    assert_int_equal(run(p, &o, 0, NULL, &base), 0);
    assert_int_equal(run(p, &o, 1, base.model, &whole), 0);
    assert_int_equal(snapshot_load(&snapshot, p->snapshot[1], conv_isa_best()), 0);
    for (int stop = 1; stop <= 4; stop++)
        check_resumed(p, &o, stop, base.model, whole.model, snapshot);
    model_release(snapshot);
    learner_result_release(&base);
    learner_result_release(&whole);
}

static void test_refuses_what_cannot_share(void **state)
{
    struct place *p = *state;
    struct learner_options o = shared_options();
    struct learner_result first, r;
    const char *bad = NULL;
    o.method = METHOD_FROZEN;
    assert_int_equal(learner_options_check(&o, &bad), ERR_INVALID);
    assert_string_equal(bad, "store");
    o = shared_options();
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    unlink(p->snapshot[0]);
    assert_int_equal(run(p, &o, 1, first.model, &r), ERR_MISSING);
    learner_result_release(&first);
}

/* A sound snapshot of another network, or of other steps of the same, where the one to build on belongs. */
static void test_refuses_another_network(void **state)
{
    struct place *p = *state;
    struct learner_options o = shared_options();
    struct learner_result first, r;
    static const int two[] = {2}, three[] = {3}, steps[] = {1, 4}, otherwise[] = {3, 4};
    const struct resnet_spec right = {.blocks = 1, .channels = 3, .height = 8, .width = 8,
                                      .classes = 2};
    const struct resnet_spec others[] = {
        {.blocks = 2, .channels = 3, .height = 32, .width = 32, .classes = 2, .arch = RESNET_18},
        {.blocks = 2, .channels = 3, .height = 8, .width = 8, .classes = 2},
        {.blocks = 1, .channels = 1, .height = 8, .width = 8, .classes = 2},
        {.blocks = 1, .channels = 3, .height = 9, .width = 8, .classes = 2},
        {.blocks = 1, .channels = 3, .height = 8, .width = 9, .classes = 2},
    };
    struct resnet_spec more = right;
    o.method = METHOD_FINETUNE; /* so that it teaches nothing */
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        put_snapshot(p->snapshot[0], &others[i], two, 1, first.model);
        assert_int_equal(run(p, &o, 1, first.model, &r), ERR_FORMAT);
    }
    more.classes = 3;
    put_snapshot(p->snapshot[0], &more, three, 1, first.model);
    assert_int_equal(run(p, &o, 1, first.model, &r), ERR_FORMAT);
    put_snapshot(p->snapshot[0], &right, two, 1, first.model);
    assert_int_equal(run(p, &o, 1, first.model, &r), 0);
    learner_result_release(&first);
    learner_result_release(&r);

    /* What would be written on top of it could not be read back. */
    struct dataset train;
    more.classes = 4;
    struct model *base = make_model(&more, steps, 2);
    put_snapshot(p->snapshot[1], &more, otherwise, 2, base);
    make_data(&train, p->side, 4, 6, PER_CLASS, 1);
    struct learner_job job = job_at(p, &o, 2, base);
    job.train = job.test = &train;
    job.classes = 6;
    assert_int_equal(learner_run(&job, &r), ERR_FORMAT);
    model_release(base);
    dataset_release(&train);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_owned_weights_never_move),
        TEST(test_stores_may_follow_each_other),
        TEST(test_resumed_is_bit_identical),
        TEST(test_refuses_what_cannot_share),
        TEST(test_refuses_another_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
