/*
 * test_export.c - exported models give the scores the daemon gives: ONNX files run by OpenCV and
 * judged by onnx's own checker (onnx_logits.py), safetensors files read back.
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

#include "core/err.h"
#include "core/model/frozen.h"
#include "core/nn/rng.h"
#include "core/m2kd/prototypes.h"
#include "server/export/onnx.h"
#include "server/export/safetensors.h"

static const char *const labels[] = {"cat",  "dog", "h\xc3\xa9risson", "\"quoted\" fox", "owl",
                                     "pike", "ray", "swan",            "toad",           "yak"};

#define SPEC(b, c, h, w, n) {.blocks = b, .channels = c, .height = h, .width = w, .classes = n}
#define SPEC18(h, w, n) \
    {.arch = RESNET_18, .blocks = 2, .channels = 3, .height = h, .width = w, .classes = n}

struct shape {
    struct resnet_spec spec;
    enum classifier classifier;
    int images, experts;
    struct model_view view;
};

static float between(struct rng *r, float low, float high)
{
    return low + (high - low) * rng_uniform(r);
}

static void fill_entry(const struct param_entry *e, float *params, struct rng *r)
{
    float low = -0.3f, high = 0.3f;
    if (e->kind == PARAM_CONV_WEIGHT || e->kind == PARAM_HEAD_WEIGHT)
        return; /* as initialised */
    if (e->kind == PARAM_BN_GAMMA || e->kind == PARAM_BN_VAR) {
        low = 0.5f;
        high = 1.5f;
    }
    for (size_t i = 0; i < e->count; i++)
        params[e->offset + i] = between(r, low, high);
}

static void fill_statistics(struct model *m, struct rng *r)
{
    int width = model_width(m);
    for (int c = 0; c < m->net->spec.classes; c++) {
        float *row = m->prototypes + c * width, squares = 0;
        for (int i = 0; i < width; i++) {
            row[i] = between(r, -0.2f, 1);
            squares += row[i] * row[i];
        }
        for (int i = 0; i < width; i++)
            row[i] /= sqrtf(squares);
    }
    for (int row = 0, at = 0; row < width; row++) /* a diagonal that outweighs what is beside it */
        for (int column = 0; column <= row; column++, at++)
            m->covariance[at] = row == column ? between(r, 1, 2) : between(r, -0.4f, 0.4f) / (float)width;
}

/* A model in which nothing is zero or one that might as well be left out. */
static struct model *make_model(const struct resnet_spec *spec, enum classifier classifier)
{
    struct model *m;
    struct rng r;
    const int steps[2] = {1, spec->classes};
    rng_init(&r, 11, 0);
    assert_int_equal(model_new(&m, spec, steps, 2, conv_isa_best()), 0);
    resnet_initialise(m->net, 5, m->params);
    for (int i = 0; i < m->net->params.entry_count; i++)
        fill_entry(&m->net->params.entries[i], m->params, &r);
    fill_statistics(m, &r);
    for (int c = 0; c < spec->channels; c++) {
        m->mean[c] = between(&r, 0.3f, 0.6f);
        m->std[c] = between(&r, 0.2f, 0.4f);
    }
    m->classifier = classifier;
    m->score_scale = 7.3f;
    return m;
}

/* Networks of their own that lend `m` their features. */
static void give_experts(struct model *m, int count)
{
    struct model *experts[4];
    model_expert_name names[4] = {"1", "2", "3", "4"};
    struct rng r;
    const int steps = 1;
    rng_init(&r, 12, 0);
    assert_true(count <= 4);
    for (int e = 0; e < count; e++) {
        struct resnet_spec spec = m->net->spec;
        spec.classes = 1;
        assert_int_equal(model_new(&experts[e], &spec, &steps, 1, conv_isa_best()), 0);
        resnet_initialise(experts[e]->net, (uint64_t)e + 20, experts[e]->params);
        experts[e]->view = m->view;
        for (int i = 0; i < experts[e]->net->params.entry_count; i++)
            fill_entry(&experts[e]->net->params.entries[i], experts[e]->params, &r);
    }
    assert_int_equal(model_set_experts(m, names, experts, count), 0);
    for (int e = 0; e < count; e++)
        model_release(experts[e]);
    if (count)
        fill_statistics(m, &r);
}

static struct export_source source_of(struct model *m)
{
    return (struct export_source){.model = m, .labels = labels, .version = 3};
}

static void save(const char *dir, const char *name, const void *data, size_t size_bytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size_bytes, file), size_bytes);
    assert_int_equal(fclose(file), 0);
}

/* Noise of different brightness and contrast; the first image is black. */
static uint8_t *make_pixels(const struct resnet_spec *s, int images)
{
    struct rng r;
    size_t size = (size_t)s->channels * (size_t)s->height * (size_t)s->width;
    uint8_t *pixels = calloc((size_t)images, size);
    assert_non_null(pixels);
    rng_init(&r, 23, 1);
    for (int i = 1; i < images; i++) {
        float low = between(&r, 0, 200), high = between(&r, low, 255);
        for (size_t k = 0; k < size; k++)
            pixels[(size_t)i * size + k] = (uint8_t)between(&r, low, high);
    }
    return pixels;
}

/* Images and what the model makes of them. */
struct trial {
    int images;
    uint8_t *pixels;
    float *x, *features, *scores, *probabilities;
    struct frozen *frozen;
    struct frozen_workspace *ws;
};

static void freeze(struct trial *t, struct model *m)
{
    frozen_workspace_free(t->ws);
    frozen_free(t->frozen);
    assert_int_equal(frozen_new(&t->frozen, m), 0);
    assert_int_equal(frozen_workspace_new(&t->ws, t->frozen), 0);
}

static void trial_init(struct trial *t, struct model *m, int images)
{
    const struct resnet_spec *s = &m->net->spec;
    size_t n = (size_t)images,
           size = (size_t)s->channels * (size_t)s->height * (size_t)s->width;
    *t = (struct trial){.images = images, .pixels = make_pixels(s, images)};
    t->x = malloc(n * size * sizeof *t->x);
    t->features = malloc(n * (size_t)model_width(m) * sizeof *t->features);
    t->scores = malloc(n * (size_t)s->classes * sizeof *t->scores);
    t->probabilities = malloc(n * (size_t)s->classes * sizeof *t->probabilities);
    assert_true(t->x && t->features && t->scores && t->probabilities);
    freeze(t, m);
    for (size_t i = 0; i < n; i++)
        frozen_normalise(t->frozen, t->pixels + i * size, t->x + i * size);
}

static void trial_release(struct trial *t)
{
    frozen_workspace_free(t->ws);
    frozen_free(t->frozen);
    free(t->pixels);
    free(t->x);
    free(t->features);
    free(t->scores);
    free(t->probabilities);
}

/* Mean features of all images. */
static void find_middle(struct trial *t, int count, double *middle)
{
    if (frozen_model(t->frozen)->expert_count)
        frozen_features(t->frozen, t->ws, t->images, t->x, t->features);
    else
        frozen_forward(t->frozen, t->ws, t->images, t->x,
                       &(const struct frozen_output){.features = t->features});
    memset(middle, 0, (size_t)count * sizeof *middle);
    for (int i = 0; i < t->images * count; i++)
        middle[i % count] += t->features[i] / (double)t->images;
}

/* row = unit vector of `feature` without its part along `middle`. */
static void point(int count, const float *feature, const double *middle, float *row)
{
    double along = 0, length = 0, squares = 0;
    for (int i = 0; i < count; i++) {
        along += feature[i] * middle[i];
        length += middle[i] * middle[i];
    }
    for (int i = 0; i < count; i++) {
        row[i] = (float)(feature[i] - middle[i] * along / length);
        squares += row[i] * row[i];
    }
    for (int i = 0; i < count; i++)
        row[i] = (float)(row[i] / sqrt(squares));
}

/* Points class c to where image c + 1 lies from the middle of all images: an untrained network sees
 * everything alike, and would answer one class to all of them. */
static void separate_classes(struct trial *t, struct model *m)
{
    int count = model_width(m);
    const struct param_entry *e = m->net->params.entries;
    double middle[1024];
    assert_true(count <= 1024);
    find_middle(t, count, middle);
    for (int c = 0; c < m->net->spec.classes; c++) {
        float *row = m->prototypes + c * count;
        float *weight = m->params + e[m->net->head_weight[0]].offset + c * count;
        double dot = 0;
        point(count, t->features + (c + 1) * count, middle, row);
        if (m->expert_count) /* whom the head does not ask */
            continue;
        for (int i = 0; i < count; i++) {
            weight[i] = 5 * row[i];
            dot += weight[i] * middle[i];
        }
        m->params[e[m->net->head_bias[0]].offset + (size_t)c] = (float)-dot;
    }
    freeze(t, m);
}

/* Writes what onnx_logits.py compares: pixels, and our own scores and probabilities of them. */
static void save_answers(const char *dir, struct trial *t, const struct model *m)
{
    const struct resnet_spec *s = &m->net->spec;
    size_t size = (size_t)s->channels * (size_t)s->height * (size_t)s->width,
           count = (size_t)t->images * (size_t)s->classes;
    frozen_scores(t->frozen, t->ws, t->images, t->x, t->scores);
    frozen_probabilities(t->frozen, t->ws, t->images, t->x, t->probabilities);
    for (size_t i = 0; i < count; i++)
        t->scores[i] *= m->score_scale;
    save(dir, "pixels", t->pixels, (size_t)t->images * size);
    save(dir, "logits", t->scores, count * sizeof *t->scores);
    save(dir, "probabilities", t->probabilities, count * sizeof *t->probabilities);
}

static void check_onnx(void **state)
{
    const struct shape *shape = *state;
    char dir[] = "/tmp/accreted-onnx-XXXXXX", command[256];
    void *file;
    size_t file_bytes;
    struct trial t;
    assert_non_null(mkdtemp(dir));
    struct model *m = make_model(&shape->spec, shape->classifier);
    m->view = shape->view;
    give_experts(m, shape->experts);
    trial_init(&t, m, shape->images);
    separate_classes(&t, m);
    struct export_source source = source_of(m);
    assert_int_equal(onnx_write(&source, &file, &file_bytes), 0);
    save(dir, "model.onnx", file, file_bytes);
    save_answers(dir, &t, m);
    free(file);
    trial_release(&t);
    model_release(m);
    snprintf(command, sizeof command, "/usr/bin/python3 tests/unit/server/onnx_logits.py %s", dir);
    int status = system(command);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(status, 0);
}

/* ---- safetensors ---- */

static void *write_safetensors(struct model *m, size_t *size_bytes)
{
    void *file;
    struct export_source source = source_of(m);
    assert_int_equal(safetensors_write(&source, &file, size_bytes), 0);
    return file;
}

static const struct resnet_spec small = {
    .blocks = 1, .channels = 3, .height = 9, .width = 8, .classes = 10};
enum { SMALL_FEATURES = 64 };
static const struct resnet_spec large = SPEC18(32, 33, 10);

static void check_read_back(const struct resnet_spec *spec)
{
    struct model *m = make_model(spec, CLASSIFIER_DISCRIMINANT);
    struct safetensors got;
    char why[200] = "";
    size_t size;
    if (spec->arch == RESNET_18)
        m->view = (struct model_view){1, 0.7f};
    void *file = write_safetensors(m, &size);
    assert_int_equal(safetensors_read(&got, file, size, conv_isa_best(), why, sizeof why), 0);
    assert_memory_equal(&got.model->net->spec, &m->net->spec, sizeof small);
    assert_memory_equal(got.model->params, m->params, m->net->params.count * sizeof(float));
    assert_memory_equal(got.model->prototypes, m->prototypes,
                        10 * (size_t)m->net->feature_count * sizeof(float));
    assert_memory_equal(got.model->mean, m->mean, sizeof m->mean);
    assert_memory_equal(got.model->std, m->std, sizeof m->std);
    assert_memory_equal(&got.model->score_scale, &m->score_scale, sizeof(float));
    assert_memory_equal(got.model->covariance, m->covariance,
                        COVARIANCE_FLOATS(m->net->feature_count) * sizeof(float));
    assert_int_equal(got.model->classifier, CLASSIFIER_DISCRIMINANT);
    assert_memory_equal(&got.model->view, &m->view, sizeof m->view);
    assert_int_equal(got.model->step_count, 1);
    assert_int_equal(got.model->step_end[0], 10);
    assert_int_equal(got.label_count, 10);
    for (int i = 0; i < 10; i++)
        assert_string_equal(got.labels[i], labels[i]);
    safetensors_release(&got);
    free(file);
    model_release(m);
}

/* What is read of a model with experts is its own network, and how that sees the classes. */
static void test_experts_stay_behind(void **state)
{
    (void)state;
    struct model *m = make_model(&small, CLASSIFIER_DISCRIMINANT);
    struct safetensors got;
    char why[200] = "";
    size_t size, own = SMALL_FEATURES;
    give_experts(m, 2);
    char *file = write_safetensors(m, &size);
    assert_int_equal(safetensors_read(&got, file, size, conv_isa_best(), why, sizeof why), 0);
    const struct model *alone = got.model;
    size_t width = (size_t)model_width(m), first = width - own;
    assert_int_equal(width, 3 * own);
    assert_int_equal(alone->expert_count, 0);
    assert_memory_equal(alone->params, m->params, m->net->params.count * sizeof(float));
    for (size_t c = 0; c < 10; c++)
        assert_memory_equal(alone->prototypes + c * own, m->prototypes + c * width + first,
                            own * sizeof(float));
    for (size_t r = 0; r < own; r++)
        for (size_t c = 0; c <= r; c++)
            assert_true(alone->covariance[r * (r + 1) / 2 + c] ==
                        m->covariance[(first + r) * (first + r + 1) / 2 + first + c]);
    safetensors_release(&got);

    /* Their tensors have their place in the file all the same: the prototypes of all features stand right after those of the network. */
    char *name = memmem(file, size, "experts.covariance", 18);
    assert_non_null(name);
    name[1] = 'y';
    assert_int_equal(safetensors_read(&got, file, size, conv_isa_best(), why, sizeof why), ERR_FORMAT);
    assert_non_null(strstr(why, "entries"));
    name[1] = 'x';
    char *offset = strstr(name, "data_offsets\":[") + 15;
    *offset = *offset == '1' ? '2' : '1';
    assert_int_equal(safetensors_read(&got, file, size, conv_isa_best(), why, sizeof why), ERR_FORMAT);
    free(file);
    model_release(m);
}

static void test_read_back(void **state)
{
    (void)state;
    check_read_back(&small);
    check_read_back(&large);
}

/* No part of a file is taken for the whole, wherever it ends; nothing is read beyond the end. */
static void test_cut_short(void **state)
{
    (void)state;
    struct model *m = make_model(&small, CLASSIFIER_HEAD);
    struct safetensors got;
    char why[200];
    size_t size;
    char *file = write_safetensors(m, &size);
    for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : cut < 8000 ? 97 : 40009) {
        char *part = malloc(cut + 1); /* the sanitizer sees one byte too many */
        assert_non_null(part);
        memcpy(part, file, cut);
        part = realloc(part, cut ? cut : 1);
        why[0] = '\0';
        assert_int_equal(safetensors_read(&got, part, cut, conv_isa_best(), why, sizeof why),
                         ERR_FORMAT);
        assert_true(strlen(why) > 10);
        free(part);
    }
    free(file);
    model_release(m);
}

static void test_value_refused(float value, size_t offset_from_end, int expected)
{
    struct model *m = make_model(&small, CLASSIFIER_DISCRIMINANT);
    struct safetensors got;
    char why[200] = "";
    size_t size;
    char *file = write_safetensors(m, &size);
    memcpy(file + size - offset_from_end, &value, sizeof value);
    int err = safetensors_read(&got, file, size, conv_isa_best(), why, sizeof why);
    assert_int_equal(err, expected);
    if (!err)
        safetensors_release(&got);
    free(file);
    model_release(m);
}

/* The prototypes come last, before them the covariance, then the variances of the last batch norm. */
static void test_numbers(void **state)
{
    (void)state;
    size_t prototypes = 10 * SMALL_FEATURES * sizeof(float);
    size_t covariance = COVARIANCE_FLOATS(SMALL_FEATURES) * sizeof(float);
    test_value_refused(0.5f, 4, 0);
    test_value_refused(-0.5f, 4, 0);
    test_value_refused(NAN, 4, ERR_FORMAT);
    test_value_refused(-INFINITY, 4, ERR_FORMAT);
    test_value_refused(2.0f, prototypes + 4, 0);
    test_value_refused(-20.0f, prototypes + 4, ERR_FORMAT); /* a variance, the covariance's last */
    test_value_refused(0.0f, prototypes + covariance + 4, 0);
    test_value_refused(-0.5f, prototypes + covariance + 4, ERR_FORMAT);
}

void openblas_set_num_threads(int threads); /* cblas.h of other BLAS libraries does not know it */

int main(void)
{
    openblas_set_num_threads(1); /* as the daemon does */
    static struct shape head = {SPEC(1, 3, 32, 32, 10), CLASSIFIER_HEAD, 1000, 0, {0, 1}};
    static struct shape prototypes = {
        SPEC(1, 3, 32, 32, 10), CLASSIFIER_PROTOTYPES, 1000, 0, {0, 1}};
    static struct shape discriminant = {
        SPEC(1, 3, 32, 32, 10), CLASSIFIER_DISCRIMINANT, 1000, 0, {0, 1}};
    static struct shape grey = {SPEC(1, 1, 28, 28, 2), CLASSIFIER_HEAD, 1000, 0, {0, 1}};
    static struct shape odd = {SPEC(2, 3, 19, 13, 7), CLASSIFIER_PROTOTYPES, 1000, 0, {0, 0.5f}};
    static struct shape deep = {SPEC(5, 3, 32, 32, 10), CLASSIFIER_PROTOTYPES, 100, 0, {0, 1}};
    static struct shape experts = {SPEC(1, 3, 32, 32, 10), CLASSIFIER_DISCRIMINANT, 300, 2, {0, 1}};
    static struct shape mirrored = {SPEC(1, 3, 19, 13, 7), CLASSIFIER_HEAD, 1000, 0, {1, 0.5f}};
    static struct shape both = {SPEC(1, 3, 32, 32, 10), CLASSIFIER_DISCRIMINANT, 300, 2, {1, 0.7f}};
    static struct shape resnet18 = {SPEC18(45, 37, 10), CLASSIFIER_PROTOTYPES, 20, 0, {0, 1}};
    const struct CMUnitTest tests[] = {
        {"onnx, head", check_onnx, NULL, NULL, &head},
        {"onnx, prototypes", check_onnx, NULL, NULL, &prototypes},
        {"onnx, discriminant", check_onnx, NULL, NULL, &discriminant},
        {"onnx, grey", check_onnx, NULL, NULL, &grey},
        {"onnx, odd sizes", check_onnx, NULL, NULL, &odd},
        {"onnx, ResNet-32", check_onnx, NULL, NULL, &deep},
        {"onnx, experts", check_onnx, NULL, NULL, &experts},
        {"onnx, mirrored", check_onnx, NULL, NULL, &mirrored},
        {"onnx, mirrored experts", check_onnx, NULL, NULL, &both},
        {"onnx, ResNet-18", check_onnx, NULL, NULL, &resnet18},
        cmocka_unit_test(test_read_back),
        cmocka_unit_test(test_experts_stay_behind),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
