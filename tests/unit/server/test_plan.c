/*
 * test_plan.c - which jobs are refused, with which code, and what an accepted one would learn.
 */
#include "tests/unit/server/store_fixture.h"

#include "server/jobs/plan.h"

enum { FIRST_EXEMPLARS = 20 }; /* of the job of learn_first */

struct posting {
    const char *names[3];
    int count;
    struct job_options options;
    struct plan plan;
    struct refusal why;
    int64_t job;
};

static int write_plan(struct db_txn *t, void *ctx)
{
    struct posting *p = ctx;
    memset(&p->why, 0, sizeof p->why);
    return plan_for_post(t, p->names, p->count, &p->options, &p->plan, &p->why);
}

static struct posting posting(const char *first, const char *second)
{
    struct posting p = {.names = {first, second}, .count = second ? 2 : 1};
    job_options_default(&p.options);
    return p;
}

static void refused(struct store *s, struct posting *p, int status, const char *code)
{
    assert_int_equal(db_write_wait(s->db, write_plan, p), ERR_INVALID);
    assert_string_equal(p->why.code, code);
    assert_int_equal(p->why.status, status);
    assert_true(strlen(p->why.detail) > 10);
}

static void accepted(struct store *s, struct posting *p)
{
    int err = db_write_wait(s->db, write_plan, p);
    if (err)
        fail_msg("refused: %d %s", err, p->why.code);
}

static int write_job(struct db_txn *t, void *ctx)
{
    struct posting *p = ctx;
    char *options;
    int64_t batch = p->plan.train[0].id;
    int err = job_options_dump(&p->plan.options, &options);
    if (!err)
        err = jobs_insert(t, options, &batch, 1, 0, NULL, &p->job);
    free(options);
    return err;
}

static int write_publication(struct db_txn *t, void *ctx)
{
    struct posting *p = ctx;
    uint32_t confusion[4] = {0};
    struct evaluation e = {.classes = 2, .confusion = confusion};
    struct version v = {.version = 1, .job = p->job, .step = 1, .classes = 2, .dense_bytes = 1,
                        .active = true};
    char *options = NULL;
    int err = jobs_start(t, p->job, "avx2", 1);
    p->plan.options.channels = 1;
    p->plan.options.height = p->plan.options.width = 28;
    if (!err)
        err = job_options_dump(&p->plan.options, &options);
    if (!err)
        err = jobs_set_plan(t, p->job, options, 6);
    free(options);
    if (!err)
        err = versions_insert(t, &v, (const char *const *)p->plan.names, 0, &e, &e);
    return err ? err : jobs_succeed(t, p->job, 1, true, true);
}

/* A store that knows cat and dog, input 1x28x28. */
static void learn_first(struct store *s)
{
    add_batch(s, "pets", "cat", "dog", 3, 0);
    struct posting p = posting("pets", NULL);
    p.options.learner.exemplars_total = FIRST_EXEMPLARS;
    accepted(s, &p);
    assert_int_equal(db_write_wait(s->db, write_job, &p), 0);
    assert_int_equal(db_write_wait(s->db, write_publication, &p), 0);
    plan_release(&p.plan);
}

static void test_accepted(void **state)
{
    struct store *s = *state;
    add_batch(s, "one", "cat", "dog", 3, 1);
    add_batch(s, "two", "dog", "emu", 2, 0);
    struct posting p = posting("one", "two");
    accepted(s, &p);
    assert_int_equal(p.plan.known, 0);
    assert_int_equal(p.plan.classes, 3); /* the dog of both counts once */
    assert_string_equal(p.plan.names[2], "emu");
    assert_int_equal(plan_train_images(&p.plan), 10);
    assert_int_equal(p.plan.version, 1);
    assert_int_equal(p.plan.step, 1);
    plan_release(&p.plan);
}

static void test_batches_refused(void **state)
{
    struct store *s = *state;
    add_batch(s, "one", "cat", "dog", 3, 1);
    add_batch(s, "test-only", "emu", NULL, 0, 5);
    struct posting p = posting("nobody", NULL);
    refused(s, &p, 404, "batch_not_found");
    p = posting("one", "one");
    refused(s, &p, 422, "bad_field");
    p = posting("test-only", NULL);
    refused(s, &p, 422, "empty_batch");
    p = posting("one", NULL);
    accepted(s, &p);
    assert_int_equal(db_write_wait(s->db, write_job, &p), 0);
    plan_release(&p.plan);
    p = posting("one", NULL);
    refused(s, &p, 409, "batch_in_use");
}

static void test_classes_refused(void **state)
{
    struct store *s = *state;
    learn_first(s);
    add_batch(s, "fox-1", "fox", "gnu", 3, 0);
    add_batch(s, "fox-2", "fox", "owl", 3, 0);
    struct posting p = posting("pets", NULL);
    refused(s, &p, 409, "batch_consumed");
    p = posting("fox-1", NULL);
    accepted(s, &p);
    assert_int_equal(p.plan.known, 2);
    assert_int_equal(p.plan.step, 2);
    assert_int_equal(p.plan.parent, 1);
    assert_int_equal(p.plan.base, 1);
    assert_int_equal(p.plan.chain[0], 1);
    assert_int_equal(p.plan.version, 2);
    assert_int_equal(db_write_wait(s->db, write_job, &p), 0);
    plan_release(&p.plan);
    p = posting("fox-2", NULL);
    refused(s, &p, 409, "class_in_queue");
}

/* More images of a known class beside a new one are a step like any other; alone they refine the version there is, in its place. */
static void test_more_of_known_classes(void **state)
{
    struct store *s = *state;
    learn_first(s);
    add_batch(s, "both", "cat", "emu", 3, 0);
    add_batch(s, "again", "dog", "cat", 3, 0);
    struct posting p = posting("again", "both");
    accepted(s, &p);
    assert_true(!p.plan.refines && p.plan.known == 2 && p.plan.classes == 3 && p.plan.step == 2);
    assert_true(p.plan.base == 1 && p.plan.parent == 1);
    plan_release(&p.plan);

    p = posting("again", NULL);
    p.options.learner.loss = LOSS_SOFTMAX; /* of no matter: nothing is trained */
    p.options.learner.store = STORE_SHARED;
    accepted(s, &p);
    assert_true(p.plan.refines && p.plan.known == 2 && p.plan.classes == 2 && p.plan.step == 1);
    assert_true(p.plan.base == 1 && p.plan.parent == 0 && p.plan.chain_count == 1);
    assert_int_equal(p.plan.version, 2);
    assert_int_equal(p.plan.options.learner.store, STORE_STANDALONE); /* the base's */
    assert_int_equal(p.plan.options.learner.exemplars_total, FIRST_EXEMPLARS);
    assert_int_equal(db_write_wait(s->db, write_job, &p), 0);
    plan_release(&p.plan);

    add_batch(s, "once-more", "dog", NULL, 3, 0); /* that job brings no class that would be unknown to this one */
    p = posting("once-more", NULL);
    p.options.learner.classifier = CLASSIFIER_HEAD;
    p.options.classifier_given = true;
    refused(s, &p, 422, "head_needs_new_classes");
    p.options.classifier_given = false; /* then it is the base's */
    p.options.exemplars_given = true; /* none: a wish like any other */
    accepted(s, &p);
    assert_int_equal(p.plan.options.learner.classifier, CLASSIFIER_DISCRIMINANT);
    assert_int_equal(p.plan.options.learner.exemplars_total, 0);
    plan_release(&p.plan);
}

/* Test images of a known class are welcome, too. */
static void test_known_class_may_be_tested(void **state)
{
    struct store *s = *state;
    learn_first(s);
    struct batch_spec spec = {"new", {"emu"}, 3, 0, "cat"};
    assert_int_equal(db_write_wait(s->db, write_batch, &spec), 0);
    struct posting p = posting("new", NULL);
    accepted(s, &p);
    assert_int_equal(p.plan.classes, 3);
    plan_release(&p.plan);
}

/* The version there is leaves no weight free. */
static void test_shared_needs_free_weights(void **state)
{
    struct store *s = *state;
    add_batch(s, "new", "emu", NULL, 3, 0);
    struct posting p = posting("new", NULL);
    p.options.learner.store = STORE_SHARED;
    accepted(s, &p); /* the first of all has all of them */
    plan_release(&p.plan);
    learn_first(s);
    refused(s, &p, 409, "capacity_exhausted");
    p.options.learner.store = STORE_STANDALONE;
    accepted(s, &p);
    plan_release(&p.plan);
}

static void test_softmax_needs_two(void **state)
{
    struct store *s = *state;
    add_batch(s, "single", "cat", NULL, 3, 0);
    add_batch(s, "pair", "dog", "emu", 3, 0);
    struct posting p = posting("single", NULL);
    p.options.learner.loss = LOSS_SOFTMAX;
    refused(s, &p, 422, "softmax_needs_two_classes");
    p = posting("pair", NULL);
    p.options.learner.loss = LOSS_SOFTMAX;
    accepted(s, &p);
    plan_release(&p.plan);
}

static void test_precision_of_this_cpu(void **state)
{
    struct store *s = *state;
    add_batch(s, "one", "cat", "dog", 3, 1);
    struct posting p = posting("one", NULL);
    p.options.learner.precision = CONV_PRECISION_COUNT; /* as bf16 where it is missing */
    refused(s, &p, 422, "bad_option");
    assert_non_null(strstr(p.why.detail, "'precision'"));
    p = posting("one", NULL);
    p.options.learner.teachers_precision = (int)CONV_PRECISION_COUNT;
    refused(s, &p, 422, "bad_option");
    assert_non_null(strstr(p.why.detail, "'teachers_precision'"));
}

static void test_architecture_is_fixed(void **state)
{
    struct store *s = *state;
    learn_first(s);
    add_batch(s, "new", "emu", NULL, 3, 0);
    struct posting p = posting("new", NULL);
    int blocks = p.options.learner.blocks;
    p.options.learner.blocks = blocks + 1;
    p.options.depth_given = true;
    refused(s, &p, 422, "fixed_by_first_job");
    p.options.learner.blocks = blocks; /* the same number, another network */
    p.options.learner.arch = RESNET_18;
    refused(s, &p, 422, "fixed_by_first_job");
    p = posting("new", NULL);
    p.options.channels = 3;
    p.options.height = p.options.width = 28;
    p.options.input_given = true;
    refused(s, &p, 422, "fixed_by_first_job");
    p = posting("new", NULL);
    p.options.learner.mirror = !p.options.learner.mirror;
    p.options.mirror_given = true;
    refused(s, &p, 422, "fixed_by_first_job");
    p = posting("new", NULL);
    p.options.learner.feature_power = 0.9f;
    p.options.feature_power_given = true;
    refused(s, &p, 422, "fixed_by_first_job");
    p = posting("new", NULL);
    bool mirror = p.options.learner.mirror;
    float power = p.options.learner.feature_power;
    p.options.learner.mirror = !mirror; /* a default of another version of the program */
    p.options.learner.feature_power = 0.9f;
    accepted(s, &p);
    assert_int_equal(p.plan.options.learner.mirror, mirror);
    assert_true(p.plan.options.learner.feature_power == power);
    assert_int_equal(p.plan.options.channels, 1);
    assert_int_equal(p.plan.options.height, 28);
    assert_int_equal(p.plan.options.learner.blocks, blocks);
    assert_int_equal(p.plan.options.learner.arch, RESNET_CIFAR);
    plan_release(&p.plan);
}

/* Without flip in training there is no second look. */
static void test_mirror_goes_with_flip(void **state)
{
    struct store *s = *state;
    add_batch(s, "one", "cat", "dog", 3, 1);
    for (int flip = 0; flip < 2; flip++) {
        struct posting p = posting("one", NULL);
        p.options.learner.view.flip = flip;
        accepted(s, &p);
        assert_int_equal(p.plan.options.learner.mirror, flip);
        plan_release(&p.plan);
    }
}

/* ---- at the start ---- */

static int write_start(struct db_txn *t, void *ctx)
{
    struct posting *p = ctx;
    memset(&p->why, 0, sizeof p->why);
    return plan_for_start(t, p->job, &p->plan, &p->why);
}

static int write_second_job(struct db_txn *t, void *ctx)
{
    struct posting *p = ctx;
    struct batch b;
    char *options;
    int err = batches_load_named(t, "later", &b);
    if (err)
        return err;
    err = job_options_dump(&p->options, &options);
    if (!err)
        err = jobs_insert(t, options, &b.id, 1, 0, NULL, &p->job);
    free(options);
    batch_release(&b);
    return err;
}

/* What a job is, is settled when it starts: its class was new when it was posted, and is known by then. */
static void test_start_checks_again(void **state)
{
    struct store *s = *state;
    add_batch(s, "later", "cat", NULL, 2, 0);
    struct posting p = posting(NULL, NULL);
    assert_int_equal(db_write_wait(s->db, write_second_job, &p), 0);
    assert_int_equal(db_write_wait(s->db, write_start, &p), 0);
    assert_int_equal(p.plan.classes, 1);
    plan_release(&p.plan);

    struct posting other = posting("pets", NULL);
    add_batch(s, "pets", "dog", "emu", 3, 2);
    accepted(s, &other);
    assert_int_equal(db_write_wait(s->db, write_job, &other), 0);
    free(other.plan.names[0]);
    other.plan.names[0] = strdup("cat"); /* as if that job had learned a cat */
    assert_int_equal(db_write_wait(s->db, write_publication, &other), 0);
    plan_release(&other.plan);

    assert_int_equal(db_write_wait(s->db, write_start, &p), 0);
    assert_true(p.plan.refines && p.plan.base == 1 && p.plan.parent == 0);
    plan_release(&p.plan);
}

/* Of two jobs that wait with the same class, which was known when they were posted and is no longer, the first learns it. */
static void test_start_minds_earlier_jobs(void **state)
{
    struct store *s = *state;
    add_batch(s, "later", "cat", NULL, 2, 0);
    struct posting first = posting(NULL, NULL), second = posting(NULL, NULL);
    assert_int_equal(db_write_wait(s->db, write_second_job, &first), 0);
    assert_int_equal(db_write_wait(s->db, write_second_job, &second), 0);
    assert_int_equal(db_write_wait(s->db, write_start, &second), ERR_INVALID);
    assert_string_equal(second.why.code, "class_in_queue");
    assert_int_equal(db_write_wait(s->db, write_start, &first), 0);
    plan_release(&first.plan);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_accepted),
        STORE_TEST(test_batches_refused),
        STORE_TEST(test_classes_refused),
        STORE_TEST(test_more_of_known_classes),
        STORE_TEST(test_known_class_may_be_tested),
        STORE_TEST(test_shared_needs_free_weights),
        STORE_TEST(test_softmax_needs_two),
        STORE_TEST(test_precision_of_this_cpu),
        STORE_TEST(test_architecture_is_fixed),
        STORE_TEST(test_mirror_goes_with_flip),
        STORE_TEST(test_start_checks_again),
        STORE_TEST(test_start_minds_earlier_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
