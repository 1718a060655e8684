/*
 * test_learner_known.c - more images of known classes: beside new ones, and alone, where the base is refined.
 */
#include "tests/unit/core/learner_fixture.h"

#include "core/learner/calibrate.h"
#include "core/m2kd/prototypes.h"
#include "core/model/retire.h"

enum { MORE = 20 };

/* Images that look like class `look`, labelled `label`. */
static void make_look(struct dataset *d, int side, int look, int label, int count, uint64_t seed)
{
    make_data(d, side, look, look + 1, count, seed);
    for (int i = 0; i < d->count; i++)
        d->labels[i] = label;
}

/* a and b, one after the other. */
static void join(struct dataset *out, const struct dataset *a, const struct dataset *b)
{
    size_t bytes = (size_t)a->height * (size_t)a->width * CHANNELS;
    assert_int_equal(dataset_init(out, a->count + b->count, a->height, a->width, CHANNELS), 0);
    memcpy(out->pixels, a->pixels, bytes * (size_t)a->count);
    memcpy(out->pixels + bytes * (size_t)a->count, b->pixels, bytes * (size_t)b->count);
    memcpy(out->labels, a->labels, (size_t)a->count * sizeof *out->labels);
    memcpy(out->labels + a->count, b->labels, (size_t)b->count * sizeof *out->labels);
}

static void is_near(const float *a, const float *b, size_t count, float within)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(a[i] - b[i]) <= within))
            fail_msg("%zu: %f is not %f", i, (double)a[i], (double)b[i]);
}

/* A job of the images `train` on `base`, the last `exemplars` of them kept ones, whose files are those of place `at`. */
static int learn(struct place *p, const struct learner_options *o, int at, int classes,
                 const struct dataset *train, int exemplars, struct model *base,
                 struct learner_result *result)
{
    struct dataset test;
    make_data(&test, p->side, 0, classes, 20, 2);
    struct learner_job job = job_at(p, o, at, base);
    job.train = train;
    job.exemplars = exemplars;
    job.test = &test;
    job.classes = classes;
    int err = run_job(&job, result);
    dataset_release(&test);
    return err;
}

/* Means and covariance of `m` are those of all these images, in its own features. */
static void check_statistics(struct model *m, const struct dataset *all, float within)
{
    int width = m->net->feature_count, classes = m->net->spec.classes;
    size_t triangle = COVARIANCE_FLOATS(width);
    float *features = malloc((size_t)all->count * (size_t)width * sizeof *features);
    float *covariance = malloc(triangle * sizeof *covariance);
    float *means = malloc((size_t)classes * (size_t)width * sizeof *means);
    struct frozen *f;
    struct gang *g;
    assert_int_equal(gang_new(&g, 1, 0), 0);
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(evaluate_features(f, all, g, NULL, features, NULL), 0);
    prototypes_mean(all->count, width, features, all->labels, 0, classes, means);
    assert_int_equal(prototypes_covariance(all->count, width, features, all->labels, 0, classes,
                                           means, NULL, covariance), 0);
    is_near(m->prototypes, means, (size_t)classes * (size_t)width, within);
    is_near(m->covariance, covariance, triangle, 10 * within);
    frozen_free(f);
    gang_free(g);
    free(features);
    free(covariance);
    free(means);
}

static float distance(const struct model *a, const struct model *b, int c)
{
    float sum = 0;
    int width = a->net->feature_count;
    for (int k = c * width; k < (c + 1) * width; k++)
        sum += fabsf(a->prototypes[k] - b->prototypes[k]);
    return sum;
}

static void same_weights(const struct model *a, const struct model *b)
{
    assert_memory_equal(a->params, b->params, a->net->params.count * sizeof *a->params);
    assert_int_equal(a->step_count, b->step_count);
    assert_memory_equal(a->step_end, b->step_end, (size_t)a->step_count * sizeof *a->step_end);
}

/* Refined by half as many images of each class, and others than it knew, base and snapshot have the statistics of all
 * images at once, in their own features, and their weights to the bit. */
static void test_refined_in_closed_form(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, second;
    struct dataset one, other, more, early, all;
    struct model *before, *after;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    make_look(&one, p->side, 2, 0, MORE, 3);
    make_look(&other, p->side, 3, 1, MORE, 3);
    join(&more, &one, &other);
    make_data(&early, p->side, 0, 2, PER_CLASS, 1);
    join(&all, &early, &more);
    p->epochs = 0;
    assert_int_equal(learn(p, &o, 1, 2, &more, 0, first.model, &second), 0);
    assert_int_equal(p->epochs, 0);
    assert_false(p->fraction_fell);
    assert_true(second.sparsity == first.sparsity && second.dense_bytes == first.dense_bytes);
    assert_true(second.model->score_scale == first.model->score_scale);
    assert_int_equal(second.model->images[0], PER_CLASS + MORE);
    same_weights(second.model, first.model);
    assert_true(distance(second.model, first.model, 0) > 0.1f); /* else the test says nothing */
    check_statistics(second.model, &all, 1e-6f);

    assert_int_equal(snapshot_load(&before, p->snapshot[0], conv_isa_best()), 0);
    assert_int_equal(snapshot_load(&after, p->snapshot[1], conv_isa_best()), 0);
    same_weights(after, before);
    assert_int_equal(after->images[1], PER_CLASS + MORE);
    assert_true(distance(after, before, 1) > 0.1f);
    check_statistics(after, &all, 5e-3f); /* what few bits leave of them */
    assert_int_equal(evaluation_total(&second.pruned, 1), 20);
    model_release(before);
    model_release(after);
    dataset_release(&one);
    dataset_release(&other);
    dataset_release(&more);
    dataset_release(&early);
    dataset_release(&all);
    learner_result_release(&first);
    learner_result_release(&second);
}

/* One class alone: the others' means stay to the bit. Images nobody counted weigh as much as the new ones;
 * scores keep their scale, unless they become another classifier's. A stop on the way leaves nothing. */
static void test_one_class_alone(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, second, third;
    struct dataset more;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    make_look(&more, p->side, 2, 0, MORE, 3);
    int width = first.model->net->feature_count;
    first.model->score_scale = 0.125f;
    atomic_store(&p->command, COMMAND_STOP);
    assert_int_equal(learn(p, &o, 1, 2, &more, 0, first.model, &second), ERR_STOPPED);
    assert_int_equal(access(p->model[1], F_OK), -1);
    atomic_store(&p->command, COMMAND_RUN);
    assert_int_equal(learn(p, &o, 1, 2, &more, 0, first.model, &second), 0);
    assert_memory_equal(second.model->prototypes + width, first.model->prototypes + width,
                        (size_t)width * sizeof(float));
    assert_int_equal(second.model->images[0], PER_CLASS + MORE);
    assert_int_equal(second.model->images[1], PER_CLASS);
    assert_true(second.model->score_scale == 0.125f);

    memset(first.model->images, 0, 2 * sizeof *first.model->images);
    o.classifier = CLASSIFIER_PROTOTYPES;
    assert_int_equal(learn(p, &o, 2, 2, &more, 0, first.model, &third), 0);
    assert_int_equal(third.model->images[0], 2 * MORE);
    assert_int_equal(third.model->images[1], 0);
    assert_int_equal(third.model->classifier, CLASSIFIER_PROTOTYPES);
    assert_true(third.model->score_scale != 0.125f);
    for (int k = 0; k < width; k++) { /* a third of the way there, and half of it */
        float a = second.model->prototypes[k] - first.model->prototypes[k];
        float b = third.model->prototypes[k] - first.model->prototypes[k];
        assert_true(fabsf(b - 1.5f * a) < 1e-5f);
    }
    dataset_release(&more);
    learner_result_release(&first);
    learner_result_release(&second);
    learner_result_release(&third);
}

static void test_what_cannot_be_refined(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, none;
    struct dataset more;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    make_look(&more, p->side, 0, 0, MORE, 3);
    o.classifier = CLASSIFIER_HEAD;
    assert_int_equal(learn(p, &o, 1, 2, &more, 0, first.model, &none), ERR_INVALID);
    o.classifier = CLASSIFIER_PROTOTYPES;
    assert_int_equal(learn(p, &o, 1, 1, &more, 0, first.model, &none), ERR_INVALID);
    assert_int_equal(learn(p, &o, 1, 1, &more, 0, NULL, &none), 0); /* the first of all is no such job */
    learner_result_release(&none);
    first.model->retired[0] = 1;
    assert_int_equal(learn(p, &o, 1, 2, &more, 0, first.model, &none), ERR_INVALID);
    first.model->retired[0] = 0;
    more.labels[3] = 2;
    assert_int_equal(learn(p, &o, 1, 2, &more, 0, first.model, &none), ERR_INVALID);
    dataset_release(&more);
    learner_result_release(&first);
}

/* The base's snapshot must be of its network and its steps: that there are as many parameters says neither. */
static void test_twin_of_another_network_is_refused(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result none;
    struct dataset more;
    static const int few[] = {1, 2}, many[] = {1, 850}, others[] = {1, 3};
    struct resnet_spec spec = {.blocks = 2, .channels = 3, .height = 8, .width = 8, .classes = 2};
    struct model *base = make_model(&spec, few, 2);
    make_look(&more, p->side, 0, 0, MORE, 3);
    put_snapshot(p->snapshot[1], &spec, few, 2, base);
    assert_int_equal(learn(p, &o, 2, 2, &more, 0, base, &none), 0); /* the right one */
    learner_result_release(&none);
    spec = (struct resnet_spec){.blocks = 1, .channels = 4, .height = 8, .width = 8, .classes = 850};
    put_snapshot(p->snapshot[1], &spec, many, 2, base);
    struct model *twin;
    assert_int_equal(snapshot_load(&twin, p->snapshot[1], conv_isa_best()), 0);
    assert_int_equal(twin->net->params.count, base->net->params.count);
    assert_int_equal(learn(p, &o, 2, 2, &more, 0, base, &none), ERR_FORMAT);
    model_release(twin);
    model_release(base);

    spec = (struct resnet_spec){.blocks = 1, .channels = 3, .height = 8, .width = 8, .classes = 3};
    base = make_model(&spec, others, 2);
    static const int otherwise[] = {2, 3};
    put_snapshot(p->snapshot[1], &spec, otherwise, 2, base);
    assert_int_equal(learn(p, &o, 2, 3, &more, 0, base, &none), ERR_FORMAT);
    model_release(base);
    dataset_release(&more);
}

/* A refined version of the shared store claims what its base did, on the same file below; and the next step goes on from it. */
static void test_refined_in_the_shared_store(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, second, refined, third;
    struct dataset more, fresh;
    struct model *before, *after, *next;
    uint8_t *owned_before, *owned_after;
    o.store = STORE_SHARED;
    o.prune_keep = 0.3f;
    o.exemplars_total = 8;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    assert_int_equal(run(p, &o, 1, first.model, &second), 0);
    make_look(&more, p->side, 0, 3, MORE, 3);
    assert_int_equal(learn(p, &o, 2, 4, &more, 0, second.model, &refined), 0);
    assert_int_equal(refined.kept_count, 2); /* of a class that had none */
    assert_int_equal(snapshot_load_owned(&before, &owned_before, p->snapshot[1], conv_isa_best()),
                     0);
    unlink(p->snapshot[1]);
    assert_int_equal(snapshot_load_owned(&after, &owned_after, p->snapshot[2], conv_isa_best()),
                     0);
    same_weights(after, before);
    assert_memory_equal(owned_after, owned_before, before->net->params.count);
    assert_true(refined.sparsity == second.sparsity);
    same_weights(refined.model, second.model);

    p->snapshot_paths[1] = p->snapshot[2];
    make_data(&fresh, p->side, 0, 2, PER_CLASS, 9);
    for (int i = 0; i < fresh.count; i++)
        fresh.labels[i] += 4;
    assert_int_equal(learn(p, &o, 1, 6, &fresh, 0, refined.model, &third), 0);
    assert_int_equal(third.model->step_count, 3);
    assert_int_equal(third.model->images[3], PER_CLASS + MORE);
    assert_int_equal(snapshot_load(&next, p->snapshot[1], conv_isa_best()), 0);
    for (size_t i = 0; i < next->net->params.entries[0].count; i++)
        if (owned_before[i] == 2) /* MASK_OWNED */
            assert_true(next->params[i] == before->params[i]);
    model_release(before);
    model_release(after);
    model_release(next);
    free(owned_before);
    free(owned_after);
    dataset_release(&more);
    dataset_release(&fresh);
    learner_result_release(&first);
    learner_result_release(&second);
    learner_result_release(&refined);
    learner_result_release(&third);
}

/* New classes and a known one in one job, with exemplars: those of the known class are picked among old and new images. */
static void test_beside_new_classes(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, second, again;
    struct dataset more, fresh, train, kept, all;
    int exemplars = 6, new_of_known = 0;
    o.exemplars_total = 40;
    make_look(&more, p->side, 0, 0, MORE, 3);
    make_data(&fresh, p->side, 2, 4, PER_CLASS, 1);
    make_data(&kept, p->side, 0, 2, exemplars / 2, 5);
    join(&train, &more, &fresh);
    join(&all, &train, &kept);
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    assert_int_equal(learn(p, &o, 1, 4, &all, exemplars, first.model, &second), 0);
    assert_int_equal(second.model->step_count, 2);
    assert_int_equal(second.model->images[0], PER_CLASS + MORE);
    assert_int_equal(second.model->images[1], PER_CLASS);
    assert_int_equal(second.model->images[2], PER_CLASS);
    assert_int_equal(second.kept_count, 10 + exemplars / 2 + 10 + 10);
    for (int i = 0; i < second.kept_count; i++) {
        assert_int_equal(all.labels[second.kept[i]], i < 10 ? 0 : i < 13 ? 1 : i < 23 ? 2 : 3);
        new_of_known += second.kept[i] < MORE;
    }
    assert_true(new_of_known >= 7); /* of 3 and 20 there are 10 */

    p->epochs = 0;
    p->stop_after = 2;
    p->then = COMMAND_STOP;
    assert_int_equal(learn(p, &o, 1, 4, &all, exemplars, first.model, &again), ERR_STOPPED);
    atomic_store(&p->command, COMMAND_RUN);
    p->stop_after = 0;
    assert_int_equal(learn(p, &o, 1, 4, &all, exemplars, first.model, &again), 0);
    assert_true(again.resumed && again.reproducible);
    same_params(again.model, second.model);
    assert_memory_equal(again.model->covariance, second.model->covariance,
                        COVARIANCE_FLOATS(64) * sizeof(float));
    dataset_release(&more);
    dataset_release(&fresh);
    dataset_release(&kept);
    dataset_release(&train);
    dataset_release(&all);
    learner_result_release(&first);
    learner_result_release(&second);
    learner_result_release(&again);
}

/* What new images of a known class are for: beside new classes it is kept where it was lost. */
static void test_known_class_is_kept(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result first, without, with;
    struct dataset more, fresh, all;
    o.loss = LOSS_SOFTMAX;
    o.epochs = 8;
    o.lr_later = 1; /* so that it is lost */
    make_look(&more, p->side, 0, 0, MORE, 3);
    make_data(&fresh, p->side, 2, 4, PER_CLASS, 1);
    join(&all, &more, &fresh);
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    assert_int_equal(learn(p, &o, 1, 4, &fresh, 0, first.model, &without), 0);
    assert_int_equal(learn(p, &o, 1, 4, &all, 0, first.model, &with), 0);
    assert_true(p->last_epoch.loss_mmd > 0 && isfinite(p->last_epoch.accuracy));
    assert_true(evaluation_correct(&with.dense, 0) >= evaluation_correct(&without.dense, 0) + 10);
    for (int c = 1; c < 4; c++)
        assert_true(evaluation_correct(&with.dense, c) + 2 >= evaluation_correct(&without.dense, c));
    dataset_release(&more);
    dataset_release(&fresh);
    dataset_release(&all);
    learner_result_release(&first);
    learner_result_release(&without);
    learner_result_release(&with);
}

/* What calibration makes of the scores that m serves on these images. */
static float scale_of(struct model *m, const struct dataset *d)
{
    struct frozen *f;
    struct gang *g;
    float scale, *features = malloc((size_t)d->count * (size_t)m->net->feature_count * sizeof *features);
    float *scores = malloc((size_t)d->count * CLASSES * sizeof *scores);
    assert_true(features && scores);
    assert_int_equal(gang_new(&g, 1, 0), 0);
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(evaluate_features(f, d, g, NULL, features, scores), 0);
    assert_int_equal(calibrate_scale(d->count, CLASSES, scores, d->labels, NULL, &scale), 0);
    frozen_free(f);
    gang_free(g);
    free(features);
    free(scores);
    return scale;
}

/* Probabilities are scaled for the scores as they are served, in which what is retired does not count. */
static void test_scale_is_of_the_scores_served(void **state)
{
    struct place *p = *state;
    struct dataset train;
    make_data(&train, p->side, 2, 4, PER_CLASS, 1);
    for (int i = 0; i < train.count; i += 3) /* wrong ones, that the scores may not be too sure of themselves */
        train.labels[i] = 5 - train.labels[i];
    for (int c = CLASSIFIER_HEAD; c <= CLASSIFIER_DISCRIMINANT; c++) {
        struct learner_result first, second;
        struct learner_options o = options();
        o.classifier = (enum classifier)c;
        assert_int_equal(run(p, &o, 0, NULL, &first), 0);
        model_retire(first.model, 1);
        assert_int_equal(learn(p, &o, 1, CLASSES, &train, 0, first.model, &second), 0);
        float want = scale_of(second.model, &train);
        assert_true(fabsf(second.model->score_scale - want) < 2e-3f * want);
        learner_result_release(&first);
        learner_result_release(&second);
    }
    dataset_release(&train);
}

/* From CALIBRATION_IMAGES test images on the scale is theirs: of dense model and snapshot, of a step and of a refinement. */
static void test_scale_is_of_the_test_images(void **state)
{
    struct place *p = *state;
    struct dataset train, test;
    struct model *snapshot;
    make_data(&train, p->side, 0, CLASSES, PER_CLASS, 1);
    make_data(&test, p->side, 0, CLASSES, CALIBRATION_IMAGES / CLASSES, 2);
    for (int i = 0; i < test.count; i += 5) /* wrong ones, as above */
        test.labels[i] = (test.labels[i] + 1) % CLASSES;
    for (int c = CLASSIFIER_HEAD; c <= CLASSIFIER_DISCRIMINANT; c++) {
        struct learner_result result[2] = {0};
        struct learner_options o = options();
        o.classifier = (enum classifier)c;
        for (int at = 0; at < (c == CLASSIFIER_HEAD ? 1 : 2); at++) {
            struct learner_job job = job_at(p, &o, at, at ? result[0].model : NULL);
            job.train = &train;
            job.test = &test;
            job.classes = CLASSES;
            assert_int_equal(run_job(&job, &result[at]), 0);
            assert_int_equal(snapshot_load(&snapshot, p->snapshot[at], conv_isa_best()), 0);
            float want = scale_of(result[at].model, &test), pruned = scale_of(snapshot, &test);
            assert_true(fabsf(result[at].model->score_scale - want) < 2e-3f * want);
            assert_true(fabsf(snapshot->score_scale - pruned) < 1e-2f * pruned);
            assert_true(fabsf(scale_of(snapshot, &train) / pruned - 1) > 0.05f); /* else the test says nothing */
            model_release(snapshot);
        }
        learner_result_release(&result[0]);
        learner_result_release(&result[1]);
    }
    dataset_release(&train);
    dataset_release(&test);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_refined_in_closed_form),
        TEST(test_one_class_alone),
        TEST(test_what_cannot_be_refined),
        TEST(test_twin_of_another_network_is_refused),
        TEST(test_refined_in_the_shared_store),
        TEST(test_beside_new_classes),
        TEST(test_known_class_is_kept),
        TEST(test_scale_is_of_the_scores_served),
        TEST(test_scale_is_of_the_test_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
