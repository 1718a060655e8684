/*
 * test_learner_experts.c - earlier snapshots whose features the classifier sees: what is exact in them, what is carried, and their files.
 */
#include "tests/unit/core/learner_fixture.h"

#include "core/m2kd/experts.h"
#include "core/m2kd/prototypes.h"

enum { WIDTH = 64, STEPS = 3 };

/* Three steps of two classes each, on one another. */
static void learn_steps(struct place *p, const struct learner_options *o,
                        struct learner_result results[STEPS])
{
    for (int s = 0; s < STEPS; s++)
        assert_int_equal(run(p, o, s, s ? results[s - 1].model : NULL, &results[s]), 0);
}

static void release_steps(struct learner_result results[STEPS])
{
    for (int s = 0; s < STEPS; s++)
        learner_result_release(&results[s]);
}


static struct model *snapshot_at(const char *path)
{
    struct model *m;
    assert_int_equal(snapshot_load(&m, path, conv_isa_best()), 0);
    return m;
}

static struct model *model_at(const char *path)
{
    struct model *m;
    assert_int_equal(model_load(&m, path, conv_isa_best()), 0);
    return m;
}

/* Unit features of all images of d by a model without experts: new, (count, WIDTH), the caller's. */
static float *features_by(struct model *m, const struct dataset *d)
{
    struct frozen *f;
    struct gang *g;
    float *features = malloc((size_t)d->count * WIDTH * sizeof *features);
    assert_non_null(features);
    assert_int_equal(gang_new(&g, 1, 0), 0);
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(model_width(m), WIDTH);
    assert_int_equal(evaluate_features(f, d, g, NULL, features, NULL), 0);
    frozen_free(f);
    gang_free(g);
    return features;
}

/* Mean unit features that `m`'s network has of the training images of class c. */
static void mean_of_class(struct place *p, struct model *m, int c, float mean[WIDTH])
{
    struct dataset d;
    int first = c / 2 * 2;
    make_data(&d, p->side, first, first + 2, PER_CLASS, 1);
    float *features = features_by(m, &d);
    for (int i = 0; i < WIDTH; i++) {
        double sum = 0;
        for (int n = 0; n < d.count; n++)
            sum += d.labels[n] == c ? features[n * WIDTH + i] : 0;
        mean[i] = (float)(sum / PER_CLASS);
    }
    dataset_release(&d);
    free(features);
}

/* The network of a model by itself. */
static struct model *bare(const struct model *of)
{
    struct model *m;
    assert_int_equal(model_new(&m, &of->net->spec, of->step_end, of->step_count, conv_isa_best()), 0);
    memcpy(m->params, of->params, m->net->params.count * sizeof *m->params);
    memcpy(m->mean, of->mean, sizeof m->mean);
    memcpy(m->std, of->std, sizeof m->std);
    m->view = of->view;
    return m;
}

/* A prototype's part `block` is the class's mean in that expert, or in the network itself after the last of them. */
static void check_block(struct place *p, const struct model *m, int c, int block, struct model *of)
{
    float want[WIDTH];
    struct model *alone = bare(of);
    const float *got = m->prototypes + (size_t)c * (size_t)model_width(m) + (size_t)block * WIDTH;
    mean_of_class(p, alone, c, want);
    for (int i = 0; i < WIDTH; i++)
        if (!(fabsf(got[i] - want[i]) < 5e-3f)) /* a snapshot's prototypes have few bits */
            fail_msg("class %d, block %d, feature %d: %f is not %f", c, block, i, (double)got[i], (double)want[i]);
    model_release(alone);
}

static void check_exact(struct place *p, const struct learner_options *o, bool mirrored)
{
    struct learner_result r[STEPS];
    learn_steps(p, o, r);
    for (int s = 0; s < STEPS; s++) {
        const struct model *m = r[s].model;
        assert_int_equal(m->view.mirrored, mirrored);
        assert_int_equal(m->expert_count, s);
        assert_int_equal(model_width(m), (s + 1) * WIDTH);
        for (int e = 0; e < s; e++) {
            const char *name = strrchr(p->snapshot[e], '/') + 1;
            struct model *expert = snapshot_at(p->snapshot[e]);
            assert_string_equal(m->expert_names[e], name);
            for (int c = 2 * e; c < 2 * (s + 1); c++) /* those that came with it or later */
                check_block(p, m, c, e, expert);
            model_release(expert);
        }
        for (int c = 2 * s; c < 2 * (s + 1); c++)
            check_block(p, m, c, s, r[s].model);
    }
    release_steps(r);
}

static void test_exact_in_every_expert_there_was(void **state)
{
    struct learner_options o = options();
    o.experts = 9;
    assert_true(o.mirror); /* which images that are never mirrored in training have no use for */
    check_exact(*state, &o, false);
}

static void test_exact_in_every_expert_mirrored(void **state)
{
    struct learner_options o = options();
    o.experts = 9;
    o.view.flip = true;
    check_exact(*state, &o, true);
}

/* The first step says it for all. */
static void test_seen_as_in_the_first_step(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    o.experts = 9;
    for (int first = 0; first < 2; first++) {
        for (int s = 0; s < 2; s++) {
            o.view.flip = true;
            o.mirror = s == 0 ? first : !first;
            o.feature_power = s == 0 ? 0.5f : 1;
            assert_int_equal(run(p, &o, s, s ? r[0].model : NULL, &r[s]), 0);
            struct model *snapshot = snapshot_at(p->snapshot[s]);
            const struct model_view want = {first, 0.5f};
            assert_memory_equal(&r[s].model->view, &want, sizeof want);
            assert_memory_equal(&snapshot->view, &want, sizeof want);
            model_release(snapshot);
        }
        learner_result_release(&r[0]);
        learner_result_release(&r[1]);
    }
}

/* With room for one expert the first step's snapshot stays it; with none the classifier is that of the network alone. */
static void test_no_more_than_asked_for(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    for (int most = 1; most >= 0; most--) {
        o.experts = most;
        learn_steps(p, &o, r);
        const struct model *m = r[STEPS - 1].model;
        assert_int_equal(m->expert_count, most);
        assert_int_equal(model_width(m), (most + 1) * WIDTH);
        if (most)
            assert_string_equal(m->expert_names[0], strrchr(p->snapshot[0], '/') + 1);
        for (int c = 4; c < 6; c++)
            check_block(p, m, c, most, r[STEPS - 1].model);
        release_steps(r);
    }
}

/* The option may change from job to job: what was wide is carried into what is not, and grows again. */
static void test_experts_come_and_go(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    o.experts = 9;
    assert_int_equal(run(p, &o, 0, NULL, &r[0]), 0);
    assert_int_equal(run(p, &o, 1, r[0].model, &r[1]), 0);
    o.experts = 0;
    assert_int_equal(run(p, &o, 2, r[1].model, &r[2]), 0);
    assert_int_equal(r[2].model->expert_count, 0);
    double alone = evaluation_accuracy(&r[2].dense);
    learner_result_release(&r[2]);
    o.classifier = CLASSIFIER_HEAD; /* which has no use for them */
    o.experts = 9;
    assert_int_equal(run(p, &o, 2, r[1].model, &r[2]), 0);
    assert_int_equal(r[2].model->expert_count, 0);
    assert_true(alone > 0.3);
    release_steps(r);
}

/* What is read back classifies as what was learned: the model, and its snapshot for a return to it. */
static void check_read_back(struct place *p, struct model *m, const struct evaluation *want)
{
    struct dataset test;
    struct evaluation got;
    struct frozen *f;
    struct gang *g;
    assert_null(m->experts); /* named in the file, and yet to be loaded */
    assert_int_equal(experts_load(m, p->dir, conv_isa_best()), 0);
    make_data(&test, p->side, 0, 6, 20, 2);
    assert_int_equal(gang_new(&g, 1, 0), 0);
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(evaluate(1, &got, &f, &test, g, NULL), 0);
    assert_int_equal(got.sampled, want->sampled);
    assert_memory_equal(got.confusion, want->confusion, 36 * sizeof *got.confusion);
    for (int i = 0; i < got.sampled * 6; i++)
        assert_true(got.scores[i] == want->scores[i]);
    evaluation_release(&got);
    frozen_free(f);
    gang_free(g);
    dataset_release(&test);
    model_release(m);
}

static void test_read_back(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    for (int store = STORE_STANDALONE; store <= STORE_SHARED; store++) {
        o.experts = 9;
        o.store = (enum snapshot_store)store;
        o.prune_keep = 0.3f;
        learn_steps(p, &o, r);
        check_read_back(p, model_at(p->model[2]), &r[2].dense);
        check_read_back(p, snapshot_at(p->snapshot[2]), &r[2].pruned);
        release_steps(r);
    }
}

/* The snapshot of one file written as another, which looks at images in other ways. */
static void put_seen_otherwise(const char *from, int way, const char *to)
{
    struct model *m = snapshot_at(from);
    uint8_t *all = malloc(m->net->params.count);
    assert_non_null(all);
    memset(all, MASK_KEPT, m->net->params.count);
    m->view = way ? (struct model_view){1, m->view.power} : (struct model_view){0, 0.9f};
    assert_int_equal(snapshot_round(m, all, SNAPSHOT_HALF), 0);
    assert_int_equal(snapshot_save(m, all, SNAPSHOT_HALF, to, NULL), 0);
    model_release(m);
    free(all);
}

static void test_files_that_do_not_belong(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    const int steps[] = {2, 4}, others[] = {3};
    char kept[112];
    o.experts = 9;
    learn_steps(p, &o, r);
    snprintf(kept, sizeof kept, "%s.kept", p->snapshot[0]);
    assert_int_equal(rename(p->snapshot[0], kept), 0);

    struct model *m = model_at(p->model[2]);
    assert_int_equal(experts_load(m, p->dir, conv_isa_best()), ERR_CORRUPT); /* it is gone */
    assert_null(m->experts);
    struct resnet_spec spec = m->net->spec;
    spec.classes = 3;
    put_snapshot(p->snapshot[0], &spec, others, 1, m); /* of other steps */
    assert_int_equal(experts_load(m, p->dir, conv_isa_best()), ERR_FORMAT);
    spec.classes = 2;
    for (int k = 0; k < 2; k++) { /* of other looks at an image */
        put_seen_otherwise(kept, k, p->snapshot[0]);
        assert_int_equal(experts_load(m, p->dir, conv_isa_best()), ERR_FORMAT);
        learner_result_release(&r[2]);
        assert_int_equal(run(p, &o, 1, r[0].model, &r[2]), ERR_FORMAT);
    }
    spec.blocks = 2;
    put_snapshot(p->snapshot[0], &spec, steps, 1, m); /* of another network */
    assert_int_equal(experts_load(m, p->dir, conv_isa_best()), ERR_FORMAT);
    learner_result_release(&r[2]);
    assert_int_equal(run(p, &o, 2, r[1].model, &r[2]), ERR_FORMAT);
    assert_int_equal(rename(kept, p->snapshot[0]), 0);
    assert_int_equal(experts_load(m, p->dir, conv_isa_best()), 0);

    /* A name that leads elsewhere is neither written nor read. */
    snprintf(m->expert_names[0], MODEL_EXPERT_NAME, "../snapshot0");
    assert_int_equal(model_save(m, p->model[2], NULL), ERR_INVALID);
    model_release(m);
    learner_result_release(&r[0]);
    learner_result_release(&r[1]);
}

/* More images of known classes alone: the means move in all experts, and what they see of the others stays. */
static void test_refined(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    struct dataset more, test;
    o.experts = 9;
    learn_steps(p, &o, r);
    const struct model *before = r[2].model;
    make_data(&more, p->side, 0, 2, 20, 9);
    make_data(&test, p->side, 0, 6, 20, 2);
    struct learner_result refined;
    const char *paths[] = {p->snapshot[0], p->snapshot[1], p->snapshot[2]};
    char model[112], snapshot[112];
    snprintf(model, sizeof model, "%s.more", p->model[2]);
    snprintf(snapshot, sizeof snapshot, "%s.more", p->snapshot[2]);
    struct learner_job job = job_at(p, &o, 2, r[2].model);
    job.snapshot_paths = paths;
    job.model_path = model;
    job.snapshot_path = snapshot;
    job.train = &more;
    job.test = &test;
    job.classes = 6;
    assert_int_equal(run_job(&job, &refined), 0);
    assert_int_equal(refined.model->expert_count, 2);
    size_t width = (size_t)model_width(before);
    for (size_t c = 0; c < 6; c++)
        for (size_t block = 0; block < 3; block++) {
            size_t at = c * width + block * WIDTH;
            bool same = memcmp(refined.model->prototypes + at, before->prototypes + at,
                               WIDTH * sizeof(float)) == 0;
            assert_int_equal(same, c >= 2);
        }
    struct model *twin = snapshot_at(snapshot);
    assert_int_equal(twin->expert_count, 2);
    model_release(twin);
    unlink(model);
    unlink(snapshot);
    dataset_release(&more);
    dataset_release(&test);
    learner_result_release(&refined);
    release_steps(r);
}

/* What the means of classes 0 and 1 should be in m's network, which learned on PER_CLASS images of each of two new classes and then the others
 * of `all`, the last `kept` of which were exemplars of the first `of_classes` classes: carried over from its only expert, and corrected by them; for the nearest mean, the
 * exemplars' own. */
static void old_means(const struct model *m, struct model *expert, const struct dataset *all, int kept,
                      int of_classes, float want[2 * WIDTH])
{
    struct model *network = bare(m), *origin = bare(expert);
    float *own = features_by(network, all), *old = features_by(origin, all), map[WIDTH * WIDTH];
    size_t fresh = (size_t)(all->count - kept);
    if (m->classifier == CLASSIFIER_PROTOTYPES) {
        prototypes_mean(kept, WIDTH, own + fresh * WIDTH, all->labels + fresh, 0, 2, want);
    } else {
        assert_int_equal(prototypes_fit_map(all->count, WIDTH, WIDTH, old, own, kept,
                                            (double)PER_CLASS * of_classes / kept, 0.1, NULL, map), 0);
        prototypes_carry(2, WIDTH, WIDTH, 0, map, expert->prototypes, want);
        assert_int_equal(prototypes_correct(kept, WIDTH, WIDTH, 0, old + fresh * WIDTH,
                                            own + fresh * WIDTH, all->labels + fresh, map, 10, NULL,
                                            2, want), 0);
    }
    model_release(network);
    model_release(origin);
    free(own);
    free(old);
}

static void append(struct dataset *all, int *count, const struct dataset *part)
{
    size_t bytes = (size_t)part->height * (size_t)part->width * (size_t)part->channels;
    memcpy(all->pixels + bytes * (size_t)*count, part->pixels, bytes * (size_t)part->count);
    memcpy(all->labels + *count, part->labels, (size_t)part->count * sizeof *all->labels);
    *count += part->count;
}

/* What kept images of old classes say of their means in the new network; what the experts saw, of all images, stands. That of class 0 takes in
 * `more` new images besides, which is test_learner_known.c's. */
static void check_exemplars(struct place *p, enum classifier classifier, int of_classes, int more)
{
    struct learner_options o = options();
    struct learner_result first, second;
    struct dataset fresh, known, kept, all, test;
    float want[2 * WIDTH];
    int count = 0;
    o.experts = 9;
    o.classifier = classifier;
    assert_int_equal(run(p, &o, 0, NULL, &first), 0);
    make_data(&fresh, p->side, 2, 4, PER_CLASS, 1);
    make_data(&known, p->side, 0, 1, more, 6);
    make_data(&kept, p->side, 0, of_classes, 4, 5);
    make_data(&test, p->side, 0, 4, 20, 2);
    assert_int_equal(dataset_init(&all, fresh.count + more + kept.count, p->side, p->side, CHANNELS), 0);
    append(&all, &count, &fresh);
    append(&all, &count, &known);
    append(&all, &count, &kept);
    struct learner_job job = job_at(p, &o, 1, first.model);
    job.train = &all;
    job.exemplars = kept.count;
    job.test = &test;
    job.classes = 4;
    assert_int_equal(run_job(&job, &second), 0);
    struct model *expert = snapshot_at(p->snapshot[0]);
    old_means(second.model, expert, &all, kept.count, of_classes, want);
    for (size_t c = more > 0; c < 2; c++) {
        const float *mean = second.model->prototypes + c * 2 * WIDTH;
        assert_memory_equal(mean, expert->prototypes + c * WIDTH, WIDTH * sizeof(float));
        for (size_t f = 0; f < WIDTH; f++)
            assert_true(fabsf(mean[WIDTH + f] - want[c * WIDTH + f]) < 1e-4f);
    }
    model_release(expert);
    dataset_release(&fresh);
    dataset_release(&known);
    dataset_release(&kept);
    dataset_release(&all);
    dataset_release(&test);
    learner_result_release(&first);
    learner_result_release(&second);
}

static void test_exemplars_correct_means(void **state)
{
    check_exemplars(*state, CLASSIFIER_DISCRIMINANT, 2, 0);
    check_exemplars(*state, CLASSIFIER_DISCRIMINANT, 2, 12);
    check_exemplars(*state, CLASSIFIER_DISCRIMINANT, 1, 0);
}

static void test_exemplars_are_means(void **state)
{
    check_exemplars(*state, CLASSIFIER_PROTOTYPES, 2, 0);
}

/* Two models in one pass are measured as by themselves, whether they have the same experts or not, whichever comes first. */
static void test_measured_together(void **state)
{
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    struct model *models[3];
    struct frozen *f[3];
    struct evaluation alone[3], together[2];
    struct dataset test;
    struct gang *g;
    o.experts = 9;
    learn_steps(p, &o, r);
    models[0] = model_hold(r[2].model);
    models[1] = snapshot_at(p->snapshot[2]);
    assert_int_equal(experts_load(models[1], p->dir, conv_isa_best()), 0);
    assert_int_equal(model_alone(&models[2], r[2].model), 0);
    assert_true(model_same_experts(models[0], models[1]) && !model_same_experts(models[0], models[2]));
    make_data(&test, p->side, 0, 6, 20, 2);
    assert_int_equal(gang_new(&g, 2, 0), 0);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(frozen_new(&f[k], models[k]), 0);
        assert_int_equal(evaluate(1, &alone[k], &f[k], &test, g, NULL), 0);
    }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            struct frozen *pair[2] = {f[a], f[b]};
            assert_int_equal(evaluate(2, together, pair, &test, g, NULL), 0);
            size_t floats = (size_t)together[0].sampled * 6;
            assert_memory_equal(together[0].scores, alone[a].scores, floats * sizeof(float));
            assert_memory_equal(together[1].scores, alone[b].scores, floats * sizeof(float));
            assert_memory_equal(together[1].confusion, alone[b].confusion, 36 * sizeof(uint32_t));
            evaluation_release(&together[0]);
            evaluation_release(&together[1]);
        }
    for (int k = 0; k < 3; k++) {
        evaluation_release(&alone[k]);
        frozen_free(f[k]);
        model_release(models[k]);
    }
    gang_free(g);
    dataset_release(&test);
    release_steps(r);
}

/* Features that are known are not asked for again: those of the experts are taken as they are told, the network's own are not. More images
 * than one block of frozen.c's. */
static void test_known_features_are_taken(void **state)
{
    enum { IMAGES = 40, CLASSES_NOW = 6, ALL = STEPS * WIDTH };
    struct place *p = *state;
    struct learner_options o = options();
    struct learner_result r[STEPS];
    struct frozen *whole, *alone;
    struct frozen_workspace *ws;
    o.experts = 9;
    learn_steps(p, &o, r);
    assert_int_equal(frozen_new(&whole, r[2].model), 0);
    assert_int_equal(frozen_new_alone(&alone, r[2].model), 0);
    assert_int_equal(frozen_workspace_new(&ws, whole), 0);
    size_t image = (size_t)p->side * (size_t)p->side * CHANNELS;
    float *x = malloc(IMAGES * image * sizeof *x), *known = malloc(IMAGES * ALL * sizeof *known);
    float *told = malloc(IMAGES * ALL * sizeof *told), *got = malloc(IMAGES * ALL * sizeof *got);
    float want[IMAGES * CLASSES_NOW], scores[IMAGES * CLASSES_NOW];
    assert_true(x && known && told && got);
    for (size_t i = 0; i < IMAGES * image; i++)
        x[i] = (float)((i * 7919) % 1000) / 500 - 1;
    frozen_classify(whole, ws, IMAGES, x, NULL, want, known);
    frozen_classify(alone, ws, IMAGES, x, known, scores, got);
    assert_memory_equal(scores, want, sizeof want);
    assert_memory_equal(got, known, IMAGES * ALL * sizeof *got);
    for (int i = 0; i < IMAGES * ALL; i++)
        told[i] = (float)i;
    frozen_classify(alone, ws, IMAGES, x, told, scores, got);
    for (int i = 0; i < IMAGES * ALL; i++)
        assert_true(got[i] == (i % ALL < ALL - WIDTH ? told : known)[i]);
    free(x);
    free(known);
    free(told);
    free(got);
    frozen_workspace_free(ws);
    frozen_free(whole);
    frozen_free(alone);
    release_steps(r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exact_in_every_expert_there_was),
        TEST(test_exact_in_every_expert_mirrored),
        TEST(test_seen_as_in_the_first_step),
        TEST(test_no_more_than_asked_for),
        TEST(test_experts_come_and_go),
        TEST(test_read_back),
        TEST(test_files_that_do_not_belong),
        TEST(test_refined),
        TEST(test_exemplars_correct_means),
        TEST(test_exemplars_are_means),
        TEST(test_measured_together),
        TEST(test_known_features_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
