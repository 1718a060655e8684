/*
 * frozen.c - inference, a few images at a time through each block; see frozen.h.
 */
#include "core/model/frozen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/prototypes.h"
#include "core/nn/arena.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/nn/pool.h"

/* Images that go through a layer together: their activations fit the L2 cache, its weights are
 * read once for all. */
enum { GROUP = 4 };
/* Images whose features are gathered from all experts before they are scored. */
enum { BLOCK = 16 };

/* Of an arena: the largest network there is takes an eighth of it, its workspace three fifths (test_train.c holds them to it). */
#define RESERVE_BYTES ((size_t)1 << 29)

struct frozen_layer {
    float *packed, *scale, *shift;
};

struct frozen {
    struct model *model; /* held */
    struct arena arena;
    struct frozen_layer *layers;
    struct frozen **experts; /* (expert_count); 0 while they are not loaded */
    int expert_count;
    float *rows, *bias; /* of the classifier (model_classifier_rows), unless it is the head or experts are not loaded */
};

struct frozen_workspace {
    struct arena arena;
    float **xpad; /* a layer; layers of one shape share a buffer */
    float *y, *block[2], *side, *scratch;
    float *features[RESNET_MAX_HEADS];
    float *views; /* (GROUP) images, each before its mirror image */
    float *wide; /* (BLOCK, model_width): the features of network and experts */
};

/* ---- making ---- */

static int freeze_layer(struct frozen *f, int index)
{
    const struct resnet *net = f->model->net;
    const struct resnet_layer *l = &net->layers[index];
    const struct param_entry *e = net->params.entries;
    const float *p = f->model->params;
    struct frozen_layer *out = &f->layers[index];
    int c = l->conv.cout;
    float inv[NORM_MAX_CHANNELS];
    out->packed = arena_alloc(&f->arena, conv_packed_floats(&l->conv, CONV_FORWARD), sizeof(float));
    out->scale = arena_alloc(&f->arena, (size_t)c, sizeof(float));
    out->shift = arena_alloc(&f->arena, (size_t)c, sizeof(float));
    if (!out->packed || !out->scale || !out->shift)
        return ERR_NOMEM;
    conv_pack(&l->conv, CONV_FORWARD, p + e[l->weight].offset, out->packed);
    for (int i = 0; i < c; i++)
        inv[i] = 1.0f / sqrtf(p[e[l->var].offset + i] + NORM_EPSILON);
    norm_affine(c, p + e[l->gamma].offset, p + e[l->beta].offset, p + e[l->mean].offset, inv,
                out->scale, out->shift);
    return 0;
}

static int freeze_classifier(struct frozen *f)
{
    const struct model *m = f->model;
    size_t classes = (size_t)m->net->spec.classes, width = (size_t)model_width(m);
    if (m->classifier == CLASSIFIER_HEAD || (m->expert_count && !m->experts))
        return 0;
    f->rows = arena_alloc(&f->arena, classes * width, sizeof *f->rows);
    f->bias = arena_alloc(&f->arena, classes, sizeof *f->bias);
    return f->rows && f->bias ? model_classifier_rows(m, f->rows, f->bias) : ERR_NOMEM;
}

/* The network alone: it lends its features, and classifies nothing. */
static int freeze_network(struct frozen **out, struct model *m)
{
    int err = ERR_NOMEM;
    struct frozen *f = calloc(1, sizeof *f);
    if (!f)
        return ERR_NOMEM;
    f->model = model_hold(m);
    f->layers = calloc((size_t)m->net->layer_count, sizeof *f->layers);
    if (!f->layers)
        goto fail;
    err = arena_init(&f->arena, RESERVE_BYTES);
    for (int i = 0; !err && i < m->net->layer_count; i++)
        err = freeze_layer(f, i);
    if (err)
        goto fail;
    *out = f;
    return 0;
fail:
    frozen_free(f);
    return err;
}

static int freeze_experts(struct frozen *f)
{
    const struct model *m = f->model;
    if (!m->experts)
        return 0;
    f->experts = calloc((size_t)m->expert_count, sizeof(struct frozen *));
    if (!f->experts)
        return ERR_NOMEM;
    while (f->expert_count < m->expert_count) {
        int err = freeze_network(&f->experts[f->expert_count], m->experts[f->expert_count]);
        if (err)
            return err;
        f->expert_count++;
    }
    return 0;
}

static int freeze(struct frozen **out, struct model *m, bool experts)
{
    struct frozen *f;
    int err = freeze_network(&f, m);
    if (err)
        return err;
    if (experts)
        err = freeze_experts(f);
    if (!err)
        err = freeze_classifier(f);
    if (err)
        frozen_free(f);
    else
        *out = f;
    return err;
}

int frozen_new(struct frozen **out, struct model *m)
{
    return freeze(out, m, true);
}

int frozen_new_alone(struct frozen **out, struct model *m)
{
    return freeze(out, m, false);
}

void frozen_free(struct frozen *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->expert_count; i++)
        frozen_free(f->experts[i]);
    free(f->experts);
    model_release(f->model);
    arena_release(&f->arena);
    free(f->layers);
    free(f);
}

const struct model *frozen_model(const struct frozen *f)
{
    return f->model;
}

/* A layer's padded input: the buffer of an earlier layer of the same input shape, or a new one. */
static float *workspace_pad(struct frozen_workspace *ws, const struct resnet *net, int layer)
{
    const struct conv *c = &net->layers[layer].conv;
    for (int i = 0; i < layer; i++) {
        const struct conv *o = &net->layers[i].conv;
        if (o->h == c->h && o->w == c->w && o->cin == c->cin && o->k == c->k &&
            conv_xpad_floats(o) >= conv_xpad_floats(c))
            return ws->xpad[i];
    }
    float *pad = arena_alloc(&ws->arena, conv_xpad_floats(c), sizeof(float));
    if (pad)
        memset(pad, 0, conv_xpad_floats(c) * sizeof(float));
    return pad;
}

static int workspace_alloc(struct frozen_workspace *ws, const struct model *m)
{
    const struct resnet *net = m->net;
    size_t image = 0, scratch = 16;
    for (int i = 0; i < net->layer_count; i++) {
        const struct conv *c = &net->layers[i].conv;
        size_t out = resnet_layer_floats(&net->layers[i]);
        image = image > out ? image : out;
        scratch = scratch > conv_scratch_floats(c) ? scratch : conv_scratch_floats(c);
        ws->xpad[i] = workspace_pad(ws, net, i);
        if (!ws->xpad[i])
            return ERR_NOMEM;
    }
    ws->y = arena_alloc(&ws->arena, GROUP * image, sizeof(float));
    ws->block[0] = arena_alloc(&ws->arena, GROUP * image, sizeof(float));
    ws->block[1] = arena_alloc(&ws->arena, GROUP * image, sizeof(float));
    ws->side = arena_alloc(&ws->arena, image, sizeof(float));
    ws->scratch = arena_alloc(&ws->arena, scratch, sizeof(float));
    for (int h = 0; h < net->head_count; h++) {
        ws->features[h] =
            arena_alloc(&ws->arena, (size_t)GROUP * net->head_features[h], sizeof(float));
        if (!ws->features[h])
            return ERR_NOMEM;
    }
    size_t pixels = (size_t)net->spec.height * net->spec.width * net->spec.channels;
    ws->views = arena_alloc(&ws->arena, GROUP * pixels, sizeof(float));
    ws->wide = arena_alloc(&ws->arena, (size_t)BLOCK * (size_t)model_width(m), sizeof(float));
    bool all = ws->y && ws->block[0] && ws->block[1] && ws->side && ws->scratch && ws->views &&
               ws->wide;
    return all ? 0 : ERR_NOMEM;
}

int frozen_workspace_new(struct frozen_workspace **out, const struct frozen *f)
{
    const struct resnet *net = f->model->net;
    int err = ERR_NOMEM;
    struct frozen_workspace *ws = calloc(1, sizeof *ws);
    if (!ws)
        return ERR_NOMEM;
    ws->xpad = calloc((size_t)net->layer_count, sizeof *ws->xpad);
    if (ws->xpad)
        err = arena_init(&ws->arena, RESERVE_BYTES);
    if (!err)
        err = workspace_alloc(ws, f->model);
    if (err) {
        frozen_workspace_free(ws);
        return err;
    }
    *out = ws;
    return 0;
}

void frozen_workspace_free(struct frozen_workspace *ws)
{
    if (!ws)
        return;
    arena_release(&ws->arena);
    free(ws->xpad);
    free(ws);
}

/* ---- running ---- */

static void run_conv(const struct frozen *f, struct frozen_workspace *ws, int layer, float *y)
{
    conv_forward(&f->model->net->layers[layer].conv, ws->xpad[layer], f->layers[layer].packed, y,
                 ws->scratch);
}

/* The stem, for one image: out = relu(bn(conv(x))), max-pooled where the network says so. */
static void run_stem(const struct frozen *f, struct frozen_workspace *ws, const float *x,
                     float *out)
{
    const struct resnet *net = f->model->net;
    const struct conv *c = &net->layers[0].conv;
    bool pools = net->blocks[0].max_pool;
    norm_copy_pad(c->h, c->w, c->cin, c->k / 2, x, ws->xpad[0]);
    run_conv(f, ws, 0, ws->y);
    norm_relu(c->oh * c->ow, c->cout, ws->y, f->layers[0].scale, f->layers[0].shift,
              pools ? ws->side : out);
    if (pools)
        pool_max(c->oh, c->ow, c->cout, ws->side, out, NULL);
}

/* What a block adds to its second batch norm: its input, or what is made of it in ws->side.
 * Borrowed. */
static const float *run_shortcut(const struct frozen *f, struct frozen_workspace *ws,
                                 const struct resnet_block *b, const float *in)
{
    const struct conv *c1 = &f->model->net->layers[b->first].conv;
    const struct frozen_layer *l;
    switch (b->shortcut) {
    case SHORTCUT_NONE:
    case SHORTCUT_IDENTITY:
        return in;
    case SHORTCUT_SUBSAMPLE:
        pool_shortcut(c1->h, c1->w, c1->cin, c1->cout, in, ws->side);
        break;
    case SHORTCUT_PROJECTION:
        l = &f->layers[b->projection];
        norm_copy_pad(c1->h, c1->w, c1->cin, 0, in, ws->xpad[b->projection]);
        run_conv(f, ws, b->projection, ws->side);
        norm_apply(b->height * b->width, b->channels, ws->side, l->scale, l->shift, ws->side);
        break;
    }
    return ws->side;
}

/* A block for a group of n images: in and out are their block inputs and outputs. */
static void run_block(const struct frozen *f, struct frozen_workspace *ws,
                      const struct resnet_block *b, int n, const float *in, float *out)
{
    const struct resnet_layer *layers = f->model->net->layers;
    const struct conv *c1 = &layers[b->first].conv, *c2 = &layers[b->last].conv;
    const struct frozen_layer *l1 = &f->layers[b->first], *l2 = &f->layers[b->last];
    size_t in_size = (size_t)c1->h * c1->w * c1->cin, size = resnet_block_floats(b);
    for (int i = 0; i < n; i++) {
        norm_copy_pad(c1->h, c1->w, c1->cin, 1, in + i * in_size, ws->xpad[b->first]);
        run_conv(f, ws, b->first, ws->y + i * size);
    }
    for (int i = 0; i < n; i++) {
        norm_relu_pad(c2->h, c2->w, c2->cin, 1, ws->y + i * size, l1->scale, l1->shift,
                      ws->xpad[b->last]);
        run_conv(f, ws, b->last, ws->y + i * size);
        norm_add_relu(c2->oh * c2->ow, c2->cout, ws->y + i * size, l2->scale, l2->shift,
                      run_shortcut(f, ws, b, in + i * in_size), out + i * size);
    }
}

static void pool_features(struct frozen_workspace *ws, const struct resnet_block *b, int n,
                          const float *outputs)
{
    for (int i = 0; i < n; i++)
        pool_average(b->height * b->width, b->channels, outputs + i * resnet_block_floats(b),
                     ws->features[b->head] + (size_t)i * b->channels);
}

/* All pooled features of up to GROUP images into ws->features. */
static void run_group(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x)
{
    const struct resnet *net = f->model->net;
    const struct resnet_spec *s = &net->spec;
    int turn = 0;
    for (int i = 0; i < n; i++)
        run_stem(f, ws, x + (size_t)i * s->height * s->width * s->channels,
                 ws->block[0] + i * resnet_block_floats(&net->blocks[0]));
    for (int k = 1; k < net->block_count; k++, turn = !turn) {
        const struct resnet_block *b = &net->blocks[k];
        run_block(f, ws, b, n, ws->block[turn], ws->block[!turn]);
        if (b->head >= 0)
            pool_features(ws, b, n, ws->block[!turn]);
    }
}

static void run_head(const struct frozen *f, struct frozen_workspace *ws, int head, int n,
                     float *logits)
{
    const struct resnet *net = f->model->net;
    const float *p = f->model->params;
    linear_forward(n, net->head_features[head], net->spec.classes, ws->features[head],
                   p + net->params.entries[net->head_weight[head]].offset,
                   p + net->params.entries[net->head_bias[head]].offset, logits);
}

void frozen_forward(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                    const struct frozen_output *out)
{
    const struct resnet *net = f->model->net;
    const struct resnet_spec *s = &net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    for (int at = 0; at < n; at += GROUP) {
        int m = n - at < GROUP ? n - at : GROUP;
        run_group(f, ws, m, x + (size_t)at * image);
        for (int h = 0; h < net->head_count; h++)
            if (out->logits[h])
                run_head(f, ws, h, m, out->logits[h] + (size_t)at * s->classes);
        if (out->features)
            memcpy(out->features + (size_t)at * net->feature_count, ws->features[0],
                   (size_t)m * net->feature_count * sizeof(float));
    }
}

/* ---- scores ---- */

/* An image, and after it its mirror image. */
static void put_views(const struct resnet_spec *s, const float *x, float *to)
{
    size_t row = (size_t)s->width * s->channels, channels = (size_t)s->channels;
    float *mirrored = to + (size_t)s->height * row;
    memcpy(to, x, (size_t)s->height * row * sizeof *to);
    for (int y = 0; y < s->height; y++, x += row)
        for (int i = s->width - 1; i >= 0; i--, mirrored += channels)
            memcpy(mirrored, x + (size_t)i * channels, channels * sizeof *x);
}

/* Images that view_features takes. */
static int view_group(const struct frozen *f)
{
    return f->model->view.mirrored ? GROUP / 2 : GROUP;
}

/* The features that classifiers see, of up to view_group images, into ws->features[0]. */
static void view_features(const struct frozen *f, struct frozen_workspace *ws, int n,
                          const float *x)
{
    const struct resnet_spec *s = &f->model->net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    size_t width = (size_t)f->model->net->feature_count;
    float *features = ws->features[0];
    if (!f->model->view.mirrored) {
        run_group(f, ws, n, x);
        return;
    }
    for (size_t i = 0; i < (size_t)n; i++)
        put_views(s, x + i * image, ws->views + 2 * i * image);
    run_group(f, ws, 2 * n, ws->views);
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t k = 0; k < width; k++)
            features[i * width + k] = (features[2 * i * width + k] +
                                       features[(2 * i + 1) * width + k]) / 2;
}

/* One network's features of `count` images, up to BLOCK, as unit vectors into rows of ws->wide, from column `at` on; with
 * `logits` (count, classes), the main head's too. */
static void gather(const struct frozen *f, struct frozen_workspace *ws, int count, const float *x,
                   int width, int at, float *logits)
{
    const struct resnet *net = f->model->net;
    const struct resnet_spec *s = &net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    int group = view_group(f);
    for (int i = 0; i < count; i += group) {
        int n = count - i < group ? count - i : group;
        view_features(f, ws, n, x + (size_t)i * image);
        if (logits)
            run_head(f, ws, 0, n, logits + (size_t)i * s->classes);
        prototypes_raise((size_t)n * (size_t)net->feature_count, f->model->view.power,
                         ws->features[0]);
        prototypes_normalise(n, net->feature_count, ws->features[0]);
        for (int k = 0; k < n; k++)
            memcpy(ws->wide + (size_t)(i + k) * width + at,
                   ws->features[0] + (size_t)k * net->feature_count,
                   (size_t)net->feature_count * sizeof(float));
    }
}

/* The features of experts and network, of up to BLOCK images, in ws->wide; `known` as in frozen_classify. */
static void gather_all(const struct frozen *f, struct frozen_workspace *ws, int count,
                       const float *x, const float *known, float *logits)
{
    int own = f->model->net->feature_count, width = model_width(f->model);
    if (known)
        memcpy(ws->wide, known, (size_t)count * (size_t)width * sizeof *known);
    for (int e = 0; e < f->expert_count && !known; e++)
        gather(f->experts[e], ws, count, x, width, e * own, NULL);
    gather(f, ws, count, x, width, width - own, logits);
}

/* The classifier's linear map of the features, into scores (classes). */
static void linear_scores(const struct frozen *f, int width, const float *features, float *scores)
{
    for (int c = 0; c < f->model->net->spec.classes; c++) {
        const float *row = f->rows + (size_t)c * width;
        float dot = 0;
        for (int i = 0; i < width; i++)
            dot += features[i] * row[i];
        scores[c] = dot + f->bias[c];
    }
}

static void softmax(int n, float scale, float *z)
{
    float top = z[0];
    double total = 0;
    for (int i = 1; i < n; i++)
        top = z[i] > top ? z[i] : top;
    for (int i = 0; i < n; i++) {
        z[i] = expf(scale * (z[i] - top));
        total += z[i];
    }
    for (int i = 0; i < n; i++)
        z[i] = (float)(z[i] / total);
}

void frozen_classify(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                     const float *known, float *scores, float *features)
{
    const struct model *m = f->model;
    const struct resnet_spec *s = &m->net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    int width = model_width(m);
    bool linear = m->classifier != CLASSIFIER_HEAD;
    for (int at = 0; at < n; at += BLOCK) {
        int count = n - at < BLOCK ? n - at : BLOCK;
        float *rows = scores + (size_t)at * s->classes;
        gather_all(f, ws, count, x + (size_t)at * image,
                   known ? known + (size_t)at * (size_t)width : NULL, linear ? NULL : rows);
        for (int i = 0; i < count && linear; i++)
            linear_scores(f, width, ws->wide + (size_t)i * width, rows + (size_t)i * s->classes);
        for (int c = 0; c < s->classes; c++)
            for (int i = 0; m->retired[c] && i < count; i++)
                rows[(size_t)i * s->classes + c] = FROZEN_RETIRED_SCORE;
        if (features)
            memcpy(features + (size_t)at * width, ws->wide,
                   (size_t)count * width * sizeof *features);
    }
}

void frozen_features(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                     float *features)
{
    const struct resnet_spec *s = &f->model->net->spec;
    size_t image = (size_t)s->height * s->width * s->channels;
    size_t width = (size_t)model_width(f->model);
    for (int at = 0; at < n; at += BLOCK) {
        int count = n - at < BLOCK ? n - at : BLOCK;
        gather_all(f, ws, count, x + (size_t)at * image, NULL, NULL);
        memcpy(features + (size_t)at * width, ws->wide, (size_t)count * width * sizeof *features);
    }
}

void frozen_scores(const struct frozen *f, struct frozen_workspace *ws, int n, const float *x,
                   float *scores)
{
    frozen_classify(f, ws, n, x, NULL, scores, NULL);
}

void frozen_softmax(const struct frozen *f, int n, float *scores)
{
    int classes = f->model->net->spec.classes;
    for (int i = 0; i < n; i++)
        softmax(classes, f->model->score_scale, scores + (size_t)i * classes);
}

void frozen_probabilities(const struct frozen *f, struct frozen_workspace *ws, int n,
                          const float *x, float *probabilities)
{
    frozen_scores(f, ws, n, x, probabilities);
    frozen_softmax(f, n, probabilities);
}

void frozen_normalise(const struct frozen *f, const uint8_t *pixels, float *x)
{
    const struct model *m = f->model;
    const struct resnet_spec *s = &m->net->spec;
    for (int i = 0; i < s->height * s->width; i++)
        for (int c = 0; c < s->channels; c++, pixels++, x++)
            *x = (*pixels / 255.0f - m->mean[c]) / m->std[c];
}
