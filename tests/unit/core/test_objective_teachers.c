/*
 * test_objective_teachers.c - the whole loss of a batch, with three snapshots and a base as teachers, against its sums written out
 * plainly for one image at a time (METHOD in README.md, objective.h), and its gradients against central differences of those.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/learner/objective.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/model/train.h"

enum {
    STEPS = 3, OLD = 7, CLASSES = 9, HEADS = 3, FEATURES = 64, SIDE = 8, IMAGE = SIDE * SIDE,
    N = 35,    /* images: two chunks that a teacher sees together, and some more */
    CHUNK = 16,
    BATCH = 5, /* number of the batch */
    TURNS = 2, /* of the base where each image meets but some teachers: as many chunks of a batch, up to four, as are whole */
};
static const int step_end[STEPS] = {2, 5, OLD}; /* groups of unequal size */

struct bench {
    char dir[64], path[STEPS][96];
    float images[N][IMAGE];
    float taught[STEPS][HEADS][N][OLD]; /* what each snapshot says, its own outputs of them */
    float base[N][FEATURES], base_taught[HEADS][N][OLD];
    struct model *base_model;
    struct resnet *net; /* the student's */
    struct gang *gang;
    struct train *train;
    struct learner_options options;
    int per_image;
    int labels[N];
};

/* What the loss of an image depends on. */
struct student {
    double logits[HEADS][CLASSES], features[FEATURES];
};

static struct resnet_spec spec_of(int classes)
{
    return (struct resnet_spec){.arch = RESNET_CIFAR, .blocks = 1, .channels = 1, .height = SIDE,
                                .width = SIDE, .classes = classes};
}

static struct model *make_model(int steps, uint64_t seed)
{
    struct resnet_spec spec = spec_of(step_end[steps - 1]);
    struct model *m;
    assert_int_equal(model_new(&m, &spec, step_end, steps, conv_isa_best()), 0);
    resnet_initialise(m->net, seed, m->params);
    return m;
}

/* Logits of every head, rows of OLD floats, or features, as the model itself computes them. */
static void ask(struct model *m, struct bench *b, float (*logits)[N][OLD], float (*features)[FEATURES])
{
    static float own[HEADS][N * OLD];
    int classes = m->net->spec.classes;
    struct frozen *f;
    struct frozen_workspace *ws;
    assert_int_equal(frozen_new(&f, m), 0);
    assert_int_equal(frozen_workspace_new(&ws, f), 0);
    struct frozen_output out = {.features = features ? features[0] : NULL};
    for (int h = 0; logits && h < HEADS; h++)
        out.logits[h] = own[h];
    frozen_forward(f, ws, N, b->images[0], &out);
    for (int h = 0; logits && h < HEADS; h++)
        for (int i = 0; i < N; i++)
            memcpy(logits[h][i], own[h] + i * classes, (size_t)classes * sizeof(float));
    frozen_workspace_free(ws);
    frozen_free(f);
}

static void make_snapshot(struct bench *b, int step)
{
    struct model *m = make_model(step + 1, (uint64_t)step + 1);
    uint8_t *mask = malloc(m->net->params.count);
    memset(mask, MASK_KEPT, m->net->params.count);
    assert_int_equal(snapshot_round(m, mask, SNAPSHOT_HALF), 0);
    snprintf(b->path[step], sizeof b->path[step], "%s/%d", b->dir, step);
    assert_int_equal(snapshot_save(m, mask, SNAPSHOT_HALF, b->path[step], NULL), 0);
    ask(m, b, b->taught[step], NULL);
    free(mask);
    model_release(m);
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    const struct resnet_spec spec = spec_of(CLASSES);
    snprintf(b->dir, sizeof b->dir, "/tmp/test_objective.XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    for (int i = 0; i < N; i++) {
        b->labels[i] = OLD + i % (CLASSES - OLD);
        for (int p = 0; p < IMAGE; p++)
            b->images[i][p] = 3 * (float)sin(1 + 5 * i + (i % 7 + 1) * p);
    }
    for (int s = 0; s < STEPS; s++)
        make_snapshot(b, s);
    b->base_model = make_model(STEPS, 9);
    ask(b->base_model, b, b->base_taught, b->base);
    assert_int_equal(resnet_new(&b->net, &spec, conv_isa_best()), 0);
    assert_int_equal(gang_new(&b->gang, 1, 0), 0);
    assert_int_equal(train_new(&b->train, b->net, b->gang, N, NULL), 0);
    learner_options_default(&b->options);
    b->options.logit_weight = 0.8f;
    b->options.lambda = 0.3f;
    b->options.aux_weight = 0.6f;
    b->options.feature_weight = 1.7f;
    b->options.temperature = 2.5f;
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    for (int s = 0; s < STEPS; s++)
        unlink(b->path[s]);
    rmdir(b->dir);
    train_free(b->train);
    gang_free(b->gang);
    resnet_free(b->net);
    model_release(b->base_model);
    free(b);
    return 0;
}

/* ---- the formula ---- */

static double sigmoid(double z)
{
    return 1 / (1 + exp(-z));
}

static double softmax(const double *z, int first, int end, int c, double temperature)
{
    double sum = 0;
    for (int k = first; k < end; k++)
        sum += exp(z[k] / temperature);
    return exp(z[c] / temperature) / sum;
}

/* class(): of the new columns alone. */
static double plain_class(const struct bench *b, const double *z, int label)
{
    double sum = 0;
    if (b->options.loss == LOSS_SOFTMAX)
        return -log(softmax(z, OLD, CLASSES, label, 1));
    for (int c = OLD; c < CLASSES; c++)
        sum -= log(c == label ? sigmoid(z[c]) : 1 - sigmoid(z[c]));
    return sum;
}

static double plain_kd(const struct bench *b, const double *z, const float *teacher, int first, int end)
{
    double sum = 0, t[OLD], temp = b->options.temperature;
    for (int c = first; c < end; c++)
        t[c] = teacher[c];
    for (int c = first; c < end; c++)
        if (b->options.loss == LOSS_SOFTMAX)
            sum -= temp * temp * softmax(t, first, end, c, temp) * log(softmax(z, first, end, c, temp));
        else
            sum -= sigmoid(t[c]) * log(sigmoid(z[c])) +
                   (1 - sigmoid(t[c])) * log(1 - sigmoid(z[c]));
    return sum;
}

/* KD summed over teachers. Where image i meets but per_image of them, those begin with the next number in each chunk that is not
 * the base's, whose images have its logits instead. */
static double plain_teachers(const struct bench *b, const double *z, int head, int i)
{
    double sum = 0;
    int met = b->per_image ? b->per_image : STEPS;
    int slot = BATCH + i / CHUNK, turn = b->per_image ? slot / TURNS : slot;
    if (b->per_image && slot % TURNS == 0)
        return plain_kd(b, z, b->base_taught[head][i], 0, OLD);
    if (b->options.teachers == TEACHERS_LAST)
        return plain_kd(b, z, b->taught[STEPS - 1][head][i], 0, OLD);
    for (int k = 0; k < met; k++) {
        int s = (turn + k) % STEPS;
        sum += plain_kd(b, z, b->taught[s][head][i], s > 0 ? step_end[s - 1] : 0, step_end[s]);
    }
    return sum * STEPS / met;
}

static double plain_features(const struct bench *b, const double *f, int i)
{
    double ff = 0, tt = 0, ft = 0;
    int turns = b->per_image ? TURNS : 1;
    if ((BATCH + i / CHUNK) % turns)
        return 0;
    for (int k = 0; k < FEATURES; k++) {
        ff += f[k] * f[k];
        tt += (double)b->base[i][k] * b->base[i][k];
        ft += f[k] * b->base[i][k];
    }
    return turns * (1 - ft / sqrt(ff * tt));
}

/* L_C, L_MMD and L_AD of image i; returns their sum. */
static double plain(const struct bench *b, const struct student *s, int i, double parts[3])
{
    const struct learner_options *o = &b->options;
    double divisor = o->head_reserve ? CLASSES : 1;
    parts[0] = plain_class(b, s->logits[0], b->labels[i]);
    parts[1] = o->logit_weight * plain_teachers(b, s->logits[0], 0, i);
    parts[2] = o->feature_weight * plain_features(b, s->features, i);
    for (int tap = 1; o->aux && tap < HEADS; tap++) {
        parts[0] += o->aux_weight * plain_class(b, s->logits[tap], b->labels[i]);
        parts[2] += o->lambda * plain_teachers(b, s->logits[tap], tap, i);
    }
    for (int p = 0; p < 3; p++)
        parts[p] /= divisor;
    return parts[0] + parts[1] + parts[2];
}

/* ---- against it ---- */

static double difference(const struct bench *b, struct student *s, int i, double *value)
{
    double parts[3], at = *value, h = 1e-4;
    *value = at + h;
    double above = plain(b, s, i, parts);
    *value = at - h;
    double below = plain(b, s, i, parts);
    *value = at;
    return (above - below) / (2 * h);
}

/* Logits and features of the student, put in by hand; no gradient yet. */
static struct student fill(struct bench *b, int i)
{
    struct student s;
    float *features = (float *)train_features(b->train, i); /* as the forward pass would fill them */
    for (int h = 0; h < HEADS; h++) {
        memset(train_dlogits(b->train, h, i), 0, CLASSES * sizeof(float));
        for (int c = 0; c < CLASSES; c++) {
            train_logits(b->train, h, i)[c] = (float)sin(1 + 7 * h + 3 * i + 2 * c) * 2;
            s.logits[h][c] = (double)train_logits(b->train, h, i)[c];
        }
    }
    memset(train_dfeatures(b->train, i), 0, FEATURES * sizeof(float));
    for (int k = 0; k < FEATURES; k++) {
        features[k] = 1 + (float)sin(2 + 5 * i + 3 * k);
        s.features[k] = (double)features[k];
    }
    return s;
}

static void close_to(double got, double expected, double within, const char *what, int i)
{
    if (!(fabs(got - expected) <= within))
        fail_msg("%s of image %d: %.9g is not %.9g", what, i, got, expected);
}

static void check_gradients(const struct bench *b, struct student *s, int i)
{
    for (int h = 0; h < HEADS; h++)
        for (int c = 0; c < CLASSES; c++)
            close_to(train_dlogits(b->train, h, i)[c],
                     difference(b, s, i, &s->logits[h][c]) / N, 1e-6, "dz", i);
    for (int k = 0; k < FEATURES; k++)
        close_to(train_dfeatures(b->train, i)[k], difference(b, s, i, &s->features[k]) / N, 1e-7,
                 "dfeatures", i);
}

/* In two slices, as members of a gang make it. */
static void check(struct bench *b)
{
    const struct teachers_options how = {
        .which = b->options.teachers, .per_image = b->per_image, .precision = CONV_FP32,
        .student = b->net, .old_classes = OLD, .base = b->base_model, .member_count = 1,
        .batch_max = N, .isa = conv_isa_best()};
    const char *paths[STEPS] = {b->path[0], b->path[1], b->path[2]};
    static struct student students[N];
    struct teachers *t;
    struct objective_sums sums = {0};
    double expected[3] = {0}, parts[3];
    assert_int_equal(teachers_new(&t, paths, STEPS, &how), 0);
    const struct objective objective = {
        .options = &b->options, .teachers = t, .old_classes = OLD, .classes = CLASSES,
        .outputs = CLASSES, .heads = HEADS, .features = FEATURES, .batch = BATCH};
    for (int i = 0; i < N; i++)
        students[i] = fill(b, i);
    for (int lo = 0, hi = 20; lo < N; lo = hi, hi = N) {
        teachers_forward(t, 0, BATCH, lo, hi - lo, b->images[lo], b->options.aux);
        objective_slice(&objective, b->train, lo, hi, N, b->labels, &sums);
    }
    for (int i = 0; i < N; i++) {
        plain(b, &students[i], i, parts);
        for (int p = 0; p < 3; p++)
            expected[p] += parts[p];
        check_gradients(b, &students[i], i);
    }
    close_to(sums.loss_class, expected[0], 1e-6 * expected[0], "L_C", N);
    close_to(sums.loss_mmd, expected[1], 1e-5 * expected[1], "L_MMD", N);
    close_to(sums.loss_ad, expected[2], 1e-5 * expected[2], "L_AD", N);
    assert_int_equal(sums.count, N);
    teachers_free(t);
}

/* Every teacher for every image, one, or two of the three in turn; or the last for all old classes. */
static void check_forms(struct bench *b)
{
    for (int form = 0; form < 8; form++) {
        b->options.aux = form & 1;
        b->options.teachers = form / 2 == 3 ? TEACHERS_LAST : TEACHERS_ALL;
        b->per_image = form / 2 == 3 ? 1 : form / 2;
        check(b);
    }
}

static void test_sigmoid(void **state)
{
    struct bench *b = *state;
    b->options.loss = LOSS_SIGMOID;
    check_forms(b);
}

static void test_softmax(void **state)
{
    struct bench *b = *state;
    b->options.loss = LOSS_SOFTMAX;
    check_forms(b);
}

/* With outputs in reserve every term is a mean over them too, distillation not left out. */
static void test_reserve(void **state)
{
    struct bench *b = *state;
    b->options.loss = LOSS_SIGMOID;
    b->options.head_reserve = CLASSES;
    check_forms(b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_sigmoid),
        TEST(test_softmax),
        TEST(test_reserve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
