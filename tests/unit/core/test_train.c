/*
 * test_train.c - whole networks: forward, backward, statistics, optimiser and inference, against
 * values PyTorch computed (tests/golden/make_resnet.py), and against themselves across gang sizes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/err.h"
#include "core/model/frozen.h"
#include "core/model/sgd.h"
#include "core/model/train.h"
#include "core/nn/loss.h"
#include "golden.h"

enum { MAX_STEPS = 10, INPUT = 1000, PROJECT_A = 2000, PROJECT_B = 2001 };

/* A network whose values are known. */
struct reference {
    const char *path;
    struct resnet_spec spec;
    int batch, steps;
    void (*fill)(int count, int stream, float *out); /* entry number, or one of the above */
    float rate;
    double conv_gain; /* weights are scaled by sqrt(gain / (k*k*cout)) */
};

static void fill_wave(int count, int stream, float *out)
{
    switch (stream) {
    case INPUT:
        golden_wave(count, 0.37, 0.5, out);
        break;
    case PROJECT_A:
        golden_wave(count, 0.9, 0.1, out);
        break;
    case PROJECT_B:
        golden_wave(count, 2.3, 0.7, out);
        break;
    default:
        golden_wave(count, 1.7, stream, out);
        break;
    }
}

static void fill_noise(int count, int stream, float *out)
{
    golden_noise(count, (uint32_t)stream, out);
}

static const struct reference cifar = {
    .path = "tests/golden/resnet.txt",
    .spec = {.blocks = 1, .channels = 3, .height = 11, .width = 9, .classes = 5},
    .batch = 6, .steps = 10, .fill = fill_wave, .rate = 0.05f,
    .conv_gain = 4,
};
static const struct reference resnet20 = {
    .path = "tests/golden/resnet20.txt",
    .spec = {.blocks = 3, .channels = 3, .height = 13, .width = 10, .classes = 4},
    .batch = 4, .steps = 3, .fill = fill_noise, .rate = 0.01f,
    .conv_gain = 6,
};
static const struct reference resnet18 = {
    .path = "tests/golden/resnet18.txt",
    .spec = {.arch = RESNET_18, .blocks = 2, .channels = 3, .height = 37, .width = 45,
             .classes = 4},
    .batch = 3, .steps = 3, .fill = fill_noise, .rate = 0.01f,
    .conv_gain = 6,
};

static const char *const heads[RESNET_MAX_HEADS] = {"head", "aux1", "aux2", "aux3"};
static const float head_share[RESNET_MAX_HEADS] = {1.0f, 0.5f, 0.25f, 0.125f};

/* A network with golden weights, and a training step on it as a gang runs it. */
struct fixture {
    const struct reference *ref;
    struct resnet *net;
    struct gang *gang;
    struct train *train;
    float *input, *params, *velocity;
    struct sgd_options sgd;
    atomic_int command;
    double loss[8];
    int err[8];
    bool update;
    bool by_features; /* the main head's gradient goes in as one of its features */
};

static void golden_params(const struct reference *ref, const struct resnet *net, float *params)
{
    for (int i = 0; i < net->params.entry_count; i++) {
        const struct param_entry *e = &net->params.entries[i];
        float *p = params + e->offset;
        ref->fill((int)e->count, i, p);
        for (size_t j = 0; j < e->count; j++)
            switch (e->kind) {
            case PARAM_CONV_WEIGHT:
                p[j] *= (float)sqrt(ref->conv_gain / (e->dims[0] * e->dims[0] * e->dims[3]));
                break;
            case PARAM_BN_GAMMA:
                p[j] = 1 + 0.2f * p[j];
                break;
            case PARAM_BN_BETA:
            case PARAM_HEAD_WEIGHT:
            case PARAM_HEAD_BIAS:
                p[j] *= 0.3f;
                break;
            case PARAM_BN_MEAN:
                p[j] = 0;
                break;
            case PARAM_BN_VAR:
                p[j] = 1;
                break;
            }
    }
}

static size_t image_size(const struct reference *ref)
{
    return (size_t)ref->spec.height * ref->spec.width * ref->spec.channels;
}

static void setup(struct fixture *f, const struct reference *ref, int size, enum conv_isa isa)
{
    memset(f, 0, sizeof *f);
    f->ref = ref;
    assert_int_equal(resnet_new(&f->net, &ref->spec, isa), 0);
    assert_int_equal(gang_new(&f->gang, size, 0), 0);
    assert_int_equal(train_new(&f->train, f->net, f->gang, ref->batch, &f->command), 0);
    f->input = calloc(ref->batch * image_size(ref), sizeof(float));
    f->params = calloc(f->net->params.count, sizeof(float));
    f->velocity = calloc(f->net->params.count, sizeof(float));
    f->sgd = (struct sgd_options){.lr = ref->rate, .momentum = 0.9f};
    golden_params(ref, f->net, f->params);
    ref->fill((int)(ref->batch * image_size(ref)), INPUT, f->input);
}

static void teardown(struct fixture *f)
{
    train_free(f->train);
    gang_free(f->gang);
    resnet_free(f->net);
    free(f->input);
    free(f->params);
    free(f->velocity);
}

static double add_losses(struct fixture *f, int i)
{
    int classes = f->ref->spec.classes, label = (3 * i + 1) % classes;
    double loss = 0;
    for (int h = 0; h < f->net->head_count; h++)
        loss += loss_softmax_labels(1, classes, 0, classes, train_logits(f->train, h, i), &label,
                                    head_share[h] / f->ref->batch, train_dlogits(f->train, h, i));
    return loss;
}

/* What the main head hands down, put in by hand. */
static void move_to_features(struct fixture *f, int i)
{
    const struct resnet *net = f->net;
    const float *rows = f->params + net->params.entries[net->head_weight[0]].offset;
    float *dz = train_dlogits(f->train, 0, i), *df = train_dfeatures(f->train, i);
    for (int c = 0; c < net->spec.classes; c++) {
        for (int k = 0; k < net->feature_count; k++)
            df[k] += dz[c] * rows[c * net->feature_count + k];
        dz[c] = 0;
    }
}

static void step(void *ctx, int member)
{
    struct fixture *f = ctx;
    size_t image = image_size(f->ref);
    int lo, hi, n = f->ref->batch;
    train_slice(f->train, n, member, &lo, &hi);
    for (int i = lo; i < hi; i++)
        memcpy(train_input(f->train, i), f->input + i * image, image * sizeof(float));
    f->loss[member] = 0;
    f->err[member] = train_forward(f->train, member, n, f->params);
    if (f->err[member])
        return;
    for (int i = lo; i < hi; i++)
        f->loss[member] += add_losses(f, i);
    for (int i = lo; i < hi && f->by_features; i++)
        move_to_features(f, i);
    f->err[member] = train_backward(f->train, member, n, f->params);
    if (f->err[member] || !f->update)
        return;
    gang_slice((int)f->net->params.trained_count, member, gang_size(f->gang), &lo, &hi);
    sgd_update(&f->net->params, &f->sgd, f->sgd.lr, (size_t)lo, (size_t)hi,
               train_gradient(f->train), NULL, f->velocity, f->params);
}

static double run_step(struct fixture *f, bool update)
{
    double loss = 0;
    f->update = update;
    gang_run(f->gang, step, f);
    for (int m = 0; m < gang_size(f->gang); m++) {
        assert_int_equal(f->err[m], 0);
        loss += f->loss[m];
    }
    return loss;
}

static void close_to(double got, double expected, double scale, const char *what)
{
    if (!(fabs(got - expected) <= 2e-4 * (fabs(expected) + scale)))
        fail_msg("%s: got %.9g, expected %.9g", what, got, expected);
}

static void check_rows(const struct reference *ref, const char *kind, int head, const float *got)
{
    double expected[64];
    int n = ref->batch * ref->spec.classes;
    char name[64];
    snprintf(name, sizeof name, "%s.%s", kind, heads[head]);
    assert_int_equal(golden_read(ref->path, name, expected, 64), n);
    for (int i = 0; i < n; i++)
        close_to(got[i], expected[i], 1, name);
}

static void project(const struct reference *ref, const float *v, size_t n, double out[2])
{
    float *a = malloc(n * sizeof *a);
    for (int which = 0; which < 2; which++) {
        ref->fill((int)n, which ? PROJECT_B : PROJECT_A, a);
        out[which] = 0;
        for (size_t i = 0; i < n; i++)
            out[which] += (double)v[i] * a[i];
    }
    free(a);
}

static void check_gradients(struct fixture *f)
{
    for (int i = 0; f->net->params.entries[i].kind != PARAM_BN_MEAN; i++) {
        const struct param_entry *e = &f->net->params.entries[i];
        char name[64];
        double expected[2] = {0}, got[2];
        snprintf(name, sizeof name, "gradient.%s", e->name);
        assert_int_equal(golden_read(f->ref->path, name, expected, 2), 2);
        project(f->ref, train_gradient(f->train) + e->offset, e->count, got);
        /* Both are sums of the same terms: what cancels in one still has its rounding, which is larger with
         * Winograd's kernels. */
        double scale = 0.2 + 0.2 * fmax(fabs(expected[0]), fabs(expected[1]));
        close_to(got[0], expected[0], scale, name);
        close_to(got[1], expected[1], scale, name);
    }
}

static void check_running(struct fixture *f)
{
    for (int i = 0; i < f->net->layer_count; i++) {
        const struct resnet_layer *l = &f->net->layers[i];
        const struct param_entry *entries = f->net->params.entries, *mean = &entries[l->mean];
        char name[64];
        double expected[4] = {0}, got[4];
        int place = (int)(strrchr(mean->name, '.') - mean->name);
        snprintf(name, sizeof name, "running.%.*s", place, mean->name);
        assert_int_equal(golden_read(f->ref->path, name, expected, 4), 4);
        project(f->ref, f->params + mean->offset, mean->count, got);
        project(f->ref, f->params + entries[l->var].offset, mean->count, got + 2);
        for (int j = 0; j < 4; j++)
            close_to(got[j], expected[j], 0.05, name);
    }
}

static void check_frozen(struct fixture *f, enum conv_isa isa)
{
    struct model *m;
    struct frozen *frozen;
    struct frozen_workspace *ws;
    float z[RESNET_MAX_HEADS][64];
    assert_int_equal(model_new(&m, &f->ref->spec, &f->ref->spec.classes, 1, isa), 0);
    memcpy(m->params, f->params, f->net->params.count * sizeof(float));
    assert_int_equal(frozen_new(&frozen, m), 0);
    assert_int_equal(frozen_workspace_new(&ws, frozen), 0);
    frozen_forward(frozen, ws, f->ref->batch, f->input,
                   &(struct frozen_output){.logits = {z[0], z[1], z[2], z[3]}});
    for (int h = 0; h < f->net->head_count; h++)
        check_rows(f->ref, "frozen", h, z[h]);
    frozen_workspace_free(ws);
    frozen_free(frozen);
    model_release(m);
}

/* Everything against PyTorch, for one network, kernel and gang size. */
static void check_golden(const struct reference *ref, enum conv_isa isa, int size)
{
    struct fixture f;
    double losses[MAX_STEPS];
    setup(&f, ref, size, isa);
    run_step(&f, false);
    for (int h = 0; h < f.net->head_count; h++)
        check_rows(ref, "train", h, train_logits(f.train, h, 0));
    check_gradients(&f);
    check_running(&f);
    check_frozen(&f, isa);
    assert_int_equal(golden_read(ref->path, "losses", losses, MAX_STEPS), ref->steps);
    for (int s = 0; s < ref->steps; s++)
        close_to(run_step(&f, true), losses[s], 1, "loss trajectory");
    teardown(&f);
}

/* A gradient of the features moves all below the head as the head's own would, and the head not at all. */
static void test_gradient_of_features(void **state)
{
    struct fixture f;
    setup(&f, *state, 2, conv_isa_best());
    size_t count = f.net->params.trained_count;
    const struct param_entry *head = &f.net->params.entries[f.net->head_weight[0]];
    float *expected = malloc(count * sizeof *expected);
    run_step(&f, false);
    memcpy(expected, train_gradient(f.train), count * sizeof *expected);
    f.by_features = true;
    for (int again = 0; again < 2; again++) { /* nothing is left over from the step before */
        run_step(&f, false);
        for (int i = 0; i < f.net->params.entry_count; i++) {
            const struct param_entry *e = &f.net->params.entries[i];
            for (size_t k = e->offset; e->kind == PARAM_CONV_WEIGHT && k < e->offset + e->count; k++)
                close_to(train_gradient(f.train)[k], expected[k], 0.3, e->name);
        }
        for (size_t k = head->offset; k < head->offset + head->count; k++)
            assert_true(train_gradient(f.train)[k] == 0);
    }
    free(expected);
    teardown(&f);
}

static void test_golden_on_every_kernel(void **state)
{
    for (int isa = 0; isa <= (int)conv_isa_best(); isa++)
        check_golden(*state, (enum conv_isa)isa, 1);
}

static void test_golden_on_every_gang(void **state)
{
    for (int size = 2; size <= 4; size++)
        check_golden(*state, conv_isa_best(), size);
}

static void test_same_bits_for_same_gang(void **state)
{
    const struct reference *ref = *state;
    struct fixture a, b;
    setup(&a, ref, 3, conv_isa_best());
    setup(&b, ref, 3, conv_isa_best());
    for (int s = 0; s < ref->steps; s++) {
        run_step(&a, true);
        run_step(&b, true);
    }
    assert_memory_equal(a.params, b.params, a.net->params.count * sizeof(float));
    teardown(&a);
    teardown(&b);
}

static void test_cancel_reaches_every_member(void **state)
{
    struct fixture f;
    setup(&f, *state, 3, conv_isa_best());
    atomic_store(&f.command, 1);
    gang_run(f.gang, step, &f);
    for (int m = 0; m < 3; m++)
        assert_int_equal(f.err[m], ERR_CANCELLED);
    teardown(&f);
}

static void test_growing_keeps_old_rows(void **state)
{
    const struct reference *ref = *state;
    struct resnet *small, *large;
    struct resnet_spec more = ref->spec;
    more.classes += 2;
    assert_int_equal(resnet_new(&small, &ref->spec, conv_isa_best()), 0);
    assert_int_equal(resnet_new(&large, &more, conv_isa_best()), 0);
    float *old = calloc(small->params.count, sizeof *old);
    float *new = calloc(large->params.count, sizeof *new);
    golden_params(ref, small, old);
    resnet_grow(small, old, large, 7, new);
    for (int i = 0; i < small->params.entry_count; i++) {
        const struct param_entry *s = &small->params.entries[i], *l = &large->params.entries[i];
        assert_string_equal(s->name, l->name);
        assert_memory_equal(old + s->offset, new + l->offset, s->count * sizeof *old);
    }
    const struct param_entry *head = &large->params.entries[large->head_weight[0]];
    double fresh = 0;
    for (size_t i = (size_t)ref->spec.classes * small->feature_count; i < head->count; i++)
        fresh += fabsf(new[head->offset + i]);
    assert_true(fresh > 0.1);
    free(old);
    free(new);
    resnet_free(small);
    resnet_free(large);
}

/* Each depth is one network, and what is no depth is refused. */
static void test_depths(void **state)
{
    (void)state;
    int known = 0;
    for (int depth = -10; depth <= 200; depth++) {
        enum resnet_arch arch;
        int blocks;
        if (resnet_from_depth(depth, &arch, &blocks))
            continue;
        known++;
        assert_int_equal(resnet_depth(arch, blocks), depth);
        assert_int_equal(arch, depth == 18 ? RESNET_18 : RESNET_CIFAR);
    }
    assert_int_equal(known, RESNET_MAX_BLOCKS + 1);
    assert_false(resnet_exists(RESNET_18, 3));
    assert_false(resnet_exists((enum resnet_arch)2, 2));
}

static void test_sizes_of_resnet18(void **state)
{
    (void)state;
    struct resnet *net;
    struct resnet_spec spec = {
        .arch = RESNET_18, .blocks = 2, .channels = 3, .height = 224, .width = 224,
        .classes = 1000};
    assert_int_equal(resnet_new(&net, &spec, conv_isa_best()), 0);
    size_t taps = 1000 * (64 + 128 + 256 + 3);
    assert_int_equal(net->params.trained_count - taps, 11689512); /* torchvision's resnet18 */
    assert_int_equal(net->blocks[0].height, 56);
    assert_int_equal(net->blocks[net->block_count - 1].height, 7);
    assert_int_equal(net->feature_count, 512);
    resnet_free(net);
    spec.width = 31;
    assert_int_equal(resnet_new(&net, &spec, conv_isa_best()), ERR_INVALID);
}

static void mirror(const struct resnet_spec *s, const float *x, float *out)
{
    for (int y = 0; y < s->height; y++)
        for (int i = 0; i < s->width; i++)
            for (int c = 0; c < s->channels; c++)
                out[(y * s->width + i) * s->channels + c] =
                    x[(y * s->width + s->width - 1 - i) * s->channels + c];
}

/* The features of n images alone, without a second view. */
static void plain_features(const struct model *m, int n, const float *x, float *features)
{
    struct model *plain;
    struct frozen *frozen;
    struct frozen_workspace *ws;
    assert_int_equal(model_copy(&plain, m, m->net->isa), 0);
    plain->view = (struct model_view){0, 1};
    assert_int_equal(frozen_new(&frozen, plain), 0);
    assert_int_equal(frozen_workspace_new(&ws, frozen), 0);
    frozen_forward(frozen, ws, n, x, &(struct frozen_output){.features = features});
    frozen_workspace_free(ws);
    frozen_free(frozen);
    model_release(plain);
}

/* However many images there are at once: what classifiers see is the mean of the features of both views, raised, as a unit vector, and
 * the head's logits are those of that mean. */
static void test_mirrored(void **state)
{
    enum { COUNT = 7, FEATURES = 512, CLASSES = 64 };
    static float features[2][COUNT * FEATURES], got[COUNT * FEATURES], scores[COUNT * CLASSES];
    const struct reference *ref = *state;
    const struct resnet_spec *s = &ref->spec;
    size_t size = image_size(ref), width;
    float *x = malloc(2 * COUNT * size * sizeof *x), *mirrored = x + COUNT * size;
    struct model *m;
    struct frozen *frozen;
    struct frozen_workspace *ws;
    golden_noise((int)(COUNT * size), 9, x);
    for (size_t i = 0; i < COUNT; i++)
        mirror(s, x + i * size, mirrored + i * size);
    assert_int_equal(model_new(&m, s, &s->classes, 1, conv_isa_best()), 0);
    golden_params(ref, m->net, m->params);
    m->view = (struct model_view){1, 0.7f};
    width = (size_t)m->net->feature_count;
    assert_true(width <= FEATURES && s->classes <= CLASSES);
    plain_features(m, COUNT, x, features[0]);
    plain_features(m, COUNT, mirrored, features[1]);
    assert_int_equal(frozen_new(&frozen, m), 0);
    assert_int_equal(frozen_workspace_new(&ws, frozen), 0);
    for (int n = 1; n <= COUNT; n++) {
        frozen_features(frozen, ws, n, x, got);
        frozen_scores(frozen, ws, n, x, scores);
        const float *weight = m->params + m->net->params.entries[m->net->head_weight[0]].offset;
        const float *bias = m->params + m->net->params.entries[m->net->head_bias[0]].offset;
        for (int i = 0; i < n; i++) {
            double mean[FEATURES], raised[FEATURES], squares = 0;
            for (size_t k = 0; k < width; k++) {
                mean[k] = ((double)features[0][(size_t)i * width + k] +
                           (double)features[1][(size_t)i * width + k]) / 2;
                raised[k] = pow(mean[k], 0.7);
                squares += raised[k] * raised[k];
            }
            for (size_t k = 0; k < width; k++)
                close_to(got[(size_t)i * width + k], raised[k] / sqrt(squares), 1, "feature");
            for (int c = 0; c < s->classes; c++) {
                double logit = bias[c];
                for (size_t k = 0; k < width; k++)
                    logit += weight[(size_t)c * width + k] * mean[k];
                close_to(scores[i * s->classes + c], logit, 1, "logit");
            }
        }
    }
    frozen_workspace_free(ws);
    frozen_free(frozen);
    model_release(m);
    free(x);
}

/* Models and workspaces reserve a fixed share of the address space: the most a file may ask for fits in. */
static void test_largest_fit(void **state)
{
    (void)state;
    for (enum resnet_arch arch = RESNET_CIFAR; arch <= RESNET_18; arch++) {
        struct model *m;
        struct frozen *frozen;
        struct frozen_workspace *ws;
        struct resnet_spec spec = {
            .arch = arch, .blocks = arch == RESNET_18 ? 2 : RESNET_MAX_BLOCKS,
            .channels = MODEL_MAX_CHANNELS, .height = 512, .width = 512,
            .classes = RESNET_MAX_CLASSES};
        assert_int_equal(model_new(&m, &spec, &spec.classes, 1, conv_isa_best()), 0);
        m->classifier = CLASSIFIER_PROTOTYPES; /* whose rows lie beside the weights */
        assert_int_equal(frozen_new(&frozen, m), 0);
        assert_int_equal(frozen_workspace_new(&ws, frozen), 0);
        frozen_workspace_free(ws);
        frozen_free(frozen);
        model_release(m);
        spec.height++;
        assert_int_equal(model_new(&m, &spec, &spec.classes, 1, conv_isa_best()), ERR_INVALID);
    }
}

#define EACH(test)                                                                 \
    {#test " cifar", test, NULL, NULL, (void *)(uintptr_t)&cifar},                 \
    {#test " resnet20", test, NULL, NULL, (void *)(uintptr_t)&resnet20},           \
    {#test " resnet18", test, NULL, NULL, (void *)(uintptr_t)&resnet18}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_golden_on_every_kernel),
        EACH(test_golden_on_every_gang),
        EACH(test_same_bits_for_same_gang),
        EACH(test_cancel_reaches_every_member),
        EACH(test_growing_keeps_old_rows),
        EACH(test_gradient_of_features),
        EACH(test_mirrored),
        cmocka_unit_test(test_depths),
        cmocka_unit_test(test_sizes_of_resnet18),
        cmocka_unit_test(test_largest_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
