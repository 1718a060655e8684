/*
 * test_train.c - a whole network: forward, backward, statistics, optimiser and inference, against
 * values PyTorch computed (tests/golden/make_resnet.py), and against itself across gang sizes.
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

#define GOLDEN "tests/golden/resnet.txt"
enum { BATCH = 6, CLASSES = 5, STEPS = 10 };

static const struct resnet_spec spec = {
    .blocks = 1, .channels = 3, .height = 11, .width = 9, .classes = CLASSES};
static const float head_share[RESNET_HEADS] = {1.0f, 0.5f, 0.25f};

/* A network with golden weights, and a training step on it as a gang runs it. */
struct fixture {
    struct resnet *net;
    struct gang *gang;
    struct train *train;
    float *params, *velocity;
    struct sgd_options sgd;
    atomic_int command;
    double loss[8];
    int err[8];
    bool update;
};

static void golden_params(const struct resnet *net, float *params)
{
    for (int i = 0; i < net->params.entry_count; i++) {
        const struct param_entry *e = &net->params.entries[i];
        float *p = params + e->offset;
        golden_wave((int)e->count, 1.7, i, p);
        for (size_t j = 0; j < e->count; j++)
            switch (e->kind) {
            case PARAM_CONV_WEIGHT:
                p[j] *= (float)sqrt(4.0 / (9 * e->dims[3]));
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

static void setup(struct fixture *f, int size, enum conv_isa isa)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(resnet_new(&f->net, &spec, isa), 0);
    assert_int_equal(gang_new(&f->gang, size, 0), 0);
    assert_int_equal(train_new(&f->train, f->net, f->gang, BATCH, &f->command), 0);
    f->params = calloc(f->net->params.count, sizeof(float));
    f->velocity = calloc(f->net->params.count, sizeof(float));
    f->sgd = (struct sgd_options){.lr = 0.05f, .momentum = 0.9f};
    golden_params(f->net, f->params);
}

static void teardown(struct fixture *f)
{
    train_free(f->train);
    gang_free(f->gang);
    resnet_free(f->net);
    free(f->params);
    free(f->velocity);
}

static int label_of(int i)
{
    return (3 * i + 1) % CLASSES;
}

static void golden_input(float *x)
{
    golden_wave(BATCH * spec.height * spec.width * spec.channels, 0.37, 0.5, x);
}

static void step(void *ctx, int member)
{
    struct fixture *f = ctx;
    size_t image = (size_t)spec.height * spec.width * spec.channels;
    float x[BATCH * 11 * 9 * 3];
    int lo, hi;
    golden_input(x);
    train_slice(f->train, BATCH, member, &lo, &hi);
    for (int i = lo; i < hi; i++)
        memcpy(train_input(f->train, i), x + i * image, image * sizeof *x);
    f->loss[member] = 0;
    f->err[member] = train_forward(f->train, member, BATCH, f->params);
    if (f->err[member])
        return;
    for (int i = lo; i < hi; i++)
        for (int h = 0; h < RESNET_HEADS; h++) {
            int label = label_of(i);
            f->loss[member] += loss_softmax_labels(
                1, CLASSES, 0, CLASSES, train_logits(f->train, h, i), &label,
                head_share[h] / BATCH, train_dlogits(f->train, h, i));
        }
    f->err[member] = train_backward(f->train, member, BATCH, f->params);
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

static void check_rows(const char *kind, const char *head, int n, const float *got)
{
    double expected[BATCH * CLASSES];
    char name[64];
    snprintf(name, sizeof name, "%s.%s", kind, head);
    assert_int_equal(golden_read(GOLDEN, name, expected, n), n);
    for (int i = 0; i < n; i++)
        close_to(got[i], expected[i], 1, name);
}

static const char *const heads[RESNET_HEADS] = {"head", "aux1", "aux2"};

static void project(const float *v, int n, double out[2])
{
    float *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
    golden_wave(n, 0.9, 0.1, a);
    golden_wave(n, 2.3, 0.7, b);
    out[0] = out[1] = 0;
    for (int i = 0; i < n; i++) {
        out[0] += (double)v[i] * a[i];
        out[1] += (double)v[i] * b[i];
    }
    free(a);
    free(b);
}

static void check_gradients(struct fixture *f)
{
    for (int i = 0; f->net->params.entries[i].kind != PARAM_BN_MEAN; i++) {
        const struct param_entry *e = &f->net->params.entries[i];
        char name[64];
        double expected[2], got[2];
        snprintf(name, sizeof name, "gradient.%s", e->name);
        assert_int_equal(golden_read(GOLDEN, name, expected, 2), 2);
        project(train_gradient(f->train) + e->offset, (int)e->count, got);
        close_to(got[0], expected[0], 0.05, name);
        close_to(got[1], expected[1], 0.05, name);
    }
}

static void check_running(struct fixture *f)
{
    for (int i = 0; i < f->net->layer_count; i++) {
        const struct resnet_layer *l = &f->net->layers[i];
        const struct param_entry *entries = f->net->params.entries, *mean = &entries[l->mean];
        char name[64];
        double expected[4], got[4];
        int place = (int)(strrchr(mean->name, '.') - mean->name);
        snprintf(name, sizeof name, "running.%.*s", place, mean->name);
        assert_int_equal(golden_read(GOLDEN, name, expected, 4), 4);
        project(f->params + mean->offset, (int)mean->count, got);
        project(f->params + entries[l->var].offset, (int)mean->count, got + 2);
        for (int j = 0; j < 4; j++)
            close_to(got[j], expected[j], 0.05, name);
    }
}

static void check_frozen(struct fixture *f, enum conv_isa isa)
{
    struct model *m;
    struct frozen *frozen;
    struct frozen_workspace *ws;
    int end = CLASSES;
    float x[BATCH * 11 * 9 * 3], z[RESNET_HEADS][BATCH * CLASSES];
    assert_int_equal(model_new(&m, &spec, &end, 1, isa), 0);
    memcpy(m->params, f->params, f->net->params.count * sizeof(float));
    assert_int_equal(frozen_new(&frozen, m), 0);
    assert_int_equal(frozen_workspace_new(&ws, frozen), 0);
    golden_input(x);
    frozen_forward(frozen, ws, BATCH, x, &(struct frozen_output){.logits = {z[0], z[1], z[2]}});
    for (int h = 0; h < RESNET_HEADS; h++)
        check_rows("frozen", heads[h], BATCH * CLASSES, z[h]);
    frozen_workspace_free(ws);
    frozen_free(frozen);
    model_release(m);
}

/* Everything against PyTorch, for one kernel and gang size. */
static void check_golden(enum conv_isa isa, int size)
{
    struct fixture f;
    double losses[STEPS];
    setup(&f, size, isa);
    run_step(&f, false);
    for (int h = 0; h < RESNET_HEADS; h++)
        check_rows("train", heads[h], BATCH * CLASSES, train_logits(f.train, h, 0));
    check_gradients(&f);
    check_running(&f);
    check_frozen(&f, isa);
    assert_int_equal(golden_read(GOLDEN, "losses", losses, STEPS), STEPS);
    for (int s = 0; s < STEPS; s++)
        close_to(run_step(&f, true), losses[s], 1, "loss trajectory");
    teardown(&f);
}

static void test_golden_on_every_kernel(void **state)
{
    (void)state;
    for (int isa = 0; isa <= (int)conv_isa_best(); isa++)
        check_golden((enum conv_isa)isa, 1);
}

static void test_golden_on_every_gang(void **state)
{
    (void)state;
    for (int size = 2; size <= 4; size++)
        check_golden(conv_isa_best(), size);
}

static void test_same_bits_for_same_gang(void **state)
{
    (void)state;
    struct fixture a, b;
    setup(&a, 3, conv_isa_best());
    setup(&b, 3, conv_isa_best());
    for (int s = 0; s < STEPS; s++) {
        run_step(&a, true);
        run_step(&b, true);
    }
    assert_memory_equal(a.params, b.params, a.net->params.count * sizeof(float));
    teardown(&a);
    teardown(&b);
}

static void test_cancel_reaches_every_member(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 3, conv_isa_best());
    atomic_store(&f.command, 1);
    gang_run(f.gang, step, &f);
    for (int m = 0; m < 3; m++)
        assert_int_equal(f.err[m], ERR_CANCELLED);
    teardown(&f);
}

static void test_growing_keeps_old_rows(void **state)
{
    (void)state;
    struct resnet *small, *large;
    struct resnet_spec more = spec;
    more.classes = CLASSES + 2;
    assert_int_equal(resnet_new(&small, &spec, conv_isa_best()), 0);
    assert_int_equal(resnet_new(&large, &more, conv_isa_best()), 0);
    float *old = calloc(small->params.count, sizeof *old);
    float *new = calloc(large->params.count, sizeof *new);
    golden_params(small, old);
    resnet_grow(small, old, large, 7, new);
    for (int i = 0; i < small->params.entry_count; i++) {
        const struct param_entry *s = &small->params.entries[i], *l = &large->params.entries[i];
        assert_string_equal(s->name, l->name);
        assert_memory_equal(old + s->offset, new + l->offset, s->count * sizeof *old);
    }
    const struct param_entry *head = param_find(&large->params, "head.weight");
    double fresh = 0;
    for (size_t i = (size_t)CLASSES * 64; i < head->count; i++)
        fresh += fabsf(new[head->offset + i]);
    assert_true(fresh > 0.1);
    free(old);
    free(new);
    resnet_free(small);
    resnet_free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_on_every_kernel),
        cmocka_unit_test(test_golden_on_every_gang),
        cmocka_unit_test(test_same_bits_for_same_gang),
        cmocka_unit_test(test_cancel_reaches_every_member),
        cmocka_unit_test(test_growing_keeps_old_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
