/*
 * resnet.c - the block table of each architecture, and the parameter table; see resnet.h.
 */
#include "core/model/resnet.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/nn/rng.h"

enum { INIT_STREAM = 1, PLACE_BYTES = 24, LAYER_ENTRIES = 5 };

/* What tells the architectures apart. */
struct architecture {
    int stages, min_blocks, max_blocks; /* blocks a stage */
    int stem_channels, stem_kernel, stem_stride;
    bool stem_pool;
    enum resnet_shortcut shortcut; /* where the shape changes */
    int min_side;
};

static const struct architecture architectures[] = {
    [RESNET_CIFAR] = {.stages = 3, .min_blocks = 1, .max_blocks = RESNET_MAX_BLOCKS,
                      .stem_channels = 16, .stem_kernel = 3, .stem_stride = 1,
                      .shortcut = SHORTCUT_SUBSAMPLE, .min_side = 8},
    [RESNET_18] = {.stages = 4, .min_blocks = 2, .max_blocks = 2,
                   .stem_channels = 64, .stem_kernel = 7, .stem_stride = 2, .stem_pool = true,
                   .shortcut = SHORTCUT_PROJECTION, .min_side = 32},
};

/* ---- what there is ---- */

bool resnet_exists(enum resnet_arch arch, int blocks)
{
    return (arch == RESNET_CIFAR || arch == RESNET_18) &&
           blocks >= architectures[arch].min_blocks && blocks <= architectures[arch].max_blocks;
}

bool resnet_same_network(const struct resnet *a, const struct resnet *b)
{
    const struct resnet_spec *p = &a->spec, *q = &b->spec;
    return p->arch == q->arch && p->blocks == q->blocks && p->channels == q->channels &&
           p->height == q->height && p->width == q->width;
}

int resnet_depth(enum resnet_arch arch, int blocks)
{
    return 2 * architectures[arch].stages * blocks + 2;
}

int resnet_from_depth(int depth, enum resnet_arch *arch, int *blocks)
{
    for (enum resnet_arch i = RESNET_CIFAR; i <= RESNET_18; i++) {
        int n = (depth - 2) / (2 * architectures[i].stages);
        if (!resnet_exists(i, n) || resnet_depth(i, n) != depth)
            continue;
        *arch = i;
        *blocks = n;
        return 0;
    }
    return ERR_INVALID;
}

int resnet_min_side(enum resnet_arch arch)
{
    return architectures[arch].min_side;
}

static bool spec_valid(const struct resnet_spec *s)
{
    if (!resnet_exists(s->arch, s->blocks))
        return false;
    int side = resnet_min_side(s->arch);
    return s->channels >= 1 && s->channels <= 4 && s->height >= side && s->height <= 512 &&
           s->width >= side && s->width <= 512 && s->classes >= 1 &&
           s->classes <= RESNET_MAX_CLASSES;
}

/* ---- parameters ---- */

/* Appends an entry; the table has room by construction. Returns its index. */
__attribute__((format(printf, 4, 5)))
static int add_entry(struct param_table *t, enum param_kind kind, const int dims[4],
                     const char *format, ...)
{
    struct param_entry *e = &t->entries[t->entry_count];
    va_list args;
    va_start(args, format);
    vsnprintf(e->name, sizeof e->name, format, args);
    va_end(args);
    e->kind = kind;
    e->offset = t->count;
    e->count = 1;
    e->ndims = 0;
    for (int i = 0; i < 4 && dims[i]; i++) {
        e->dims[e->ndims++] = dims[i];
        e->count *= (size_t)dims[i];
    }
    t->count += e->count;
    return t->entry_count++;
}

/* "stem" or "stage1.block0", as its own array. */
struct place {
    char text[PLACE_BYTES];
};

static struct place place_of(const struct resnet_block *b)
{
    struct place p;
    if (b->shortcut == SHORTCUT_NONE)
        snprintf(p.text, sizeof p.text, "stem");
    else
        snprintf(p.text, sizeof p.text, "stage%d.block%d", b->stage, b->place);
    return p;
}

/* The names of a layer's two halves within its place, by role. */
static const char *const conv_names[] = {"conv1", "conv1", "conv2", "proj.conv"};
static const char *const norm_names[] = {"bn1", "bn1", "bn2", "proj.bn"};

static void add_layer_entries(struct resnet *net, struct resnet_layer *l)
{
    struct place place = place_of(&net->blocks[l->block]);
    const char *conv = conv_names[l->role], *norm = norm_names[l->role];
    const struct conv *c = &l->conv;
    l->weight = add_entry(&net->params, PARAM_CONV_WEIGHT, (int[4]){c->k, c->k, c->cin, c->cout},
                          "%s.%s.weight", place.text, conv);
    l->gamma = add_entry(&net->params, PARAM_BN_GAMMA, (int[4]){c->cout}, "%s.%s.gamma",
                         place.text, norm);
    l->beta = add_entry(&net->params, PARAM_BN_BETA, (int[4]){c->cout}, "%s.%s.beta", place.text,
                        norm);
}

static void add_head_entries(struct resnet *net)
{
    for (int i = 0; i < net->head_count; i++) {
        char name[16] = "head";
        if (i > 0)
            snprintf(name, sizeof name, "aux%d", i);
        net->head_weight[i] =
            add_entry(&net->params, PARAM_HEAD_WEIGHT,
                      (int[4]){net->spec.classes, net->head_features[i]}, "%s.weight", name);
        net->head_bias[i] = add_entry(&net->params, PARAM_HEAD_BIAS, (int[4]){net->spec.classes},
                                      "%s.bias", name);
    }
}

static void add_running_entries(struct resnet *net, struct resnet_layer *l)
{
    struct place place = place_of(&net->blocks[l->block]);
    const char *norm = norm_names[l->role];
    l->mean = add_entry(&net->params, PARAM_BN_MEAN, (int[4]){l->conv.cout}, "%s.%s.mean",
                        place.text, norm);
    l->var = add_entry(&net->params, PARAM_BN_VAR, (int[4]){l->conv.cout}, "%s.%s.var", place.text,
                       norm);
}

static void add_entries(struct resnet *net)
{
    for (int i = 0; i < net->layer_count; i++)
        add_layer_entries(net, &net->layers[i]);
    add_head_entries(net);
    net->params.trained_count = net->params.count;
    for (int i = 0; i < net->layer_count; i++)
        add_running_entries(net, &net->layers[i]);
}

/* ---- structure ---- */

/* Appends a convolution of an (h, w, cin) input to the block being added. */
static int add_layer(struct resnet *net, enum resnet_role role, const int input[3], int cout,
                     int k, int stride, enum conv_isa isa)
{
    struct resnet_layer *l = &net->layers[net->layer_count++];
    l->role = role;
    l->block = net->block_count;
    return conv_init(&l->conv, input[0], input[1], input[2], cout, k, stride, isa, CONV_FP32);
}

/* The output's shape is that of the last convolution, halved by max pooling. */
static void finish_block(struct resnet *net, struct resnet_block *b)
{
    const struct conv *c = &net->layers[b->last].conv;
    b->height = b->max_pool ? (c->oh + 1) / 2 : c->oh;
    b->width = b->max_pool ? (c->ow + 1) / 2 : c->ow;
    b->channels = c->cout;
    net->block_count++;
}

static int add_stem(struct resnet *net, const struct architecture *a, enum conv_isa isa)
{
    const struct resnet_spec *s = &net->spec;
    struct resnet_block *b = &net->blocks[0];
    *b = (struct resnet_block){.projection = -1, .head = -1, .max_pool = a->stem_pool};
    int err = add_layer(net, LAYER_STEM, (int[3]){s->height, s->width, s->channels},
                        a->stem_channels, a->stem_kernel, a->stem_stride, isa);
    if (!err)
        finish_block(net, b);
    return err;
}

/* Block `place` of stage `stage`, on top of what is there. */
static int add_block(struct resnet *net, const struct architecture *a, int stage, int place,
                     enum conv_isa isa)
{
    const struct resnet_block *below = &net->blocks[net->block_count - 1];
    struct resnet_block *b = &net->blocks[net->block_count];
    const int in[3] = {below->height, below->width, below->channels};
    int cout = a->stem_channels << (stage - 1), stride = stage > 1 && place == 0 ? 2 : 1;
    bool ends_stage = place == net->spec.blocks - 1;
    *b = (struct resnet_block){
        .stage = stage,
        .place = place,
        .first = net->layer_count,
        .last = net->layer_count + 1,
        .projection = -1,
        .shortcut = stride == 1 ? SHORTCUT_IDENTITY : a->shortcut,
        .head = !ends_stage ? -1 : stage == a->stages ? 0 : stage,
    };
    int err = add_layer(net, LAYER_CONV1, in, cout, 3, stride, isa);
    if (err)
        return err;
    const struct conv *c1 = &net->layers[b->first].conv;
    err = add_layer(net, LAYER_CONV2, (int[3]){c1->oh, c1->ow, cout}, cout, 3, 1, isa);
    if (!err && b->shortcut == SHORTCUT_PROJECTION) {
        b->projection = net->layer_count;
        err = add_layer(net, LAYER_PROJECTION, in, cout, 1, stride, isa);
    }
    if (err)
        return err;
    finish_block(net, b);
    if (b->head >= 0)
        net->head_features[b->head] = b->channels;
    return 0;
}

static int add_blocks(struct resnet *net, const struct architecture *a, enum conv_isa isa)
{
    int err = add_stem(net, a, isa);
    for (int stage = 1; stage <= a->stages; stage++)
        for (int place = 0; !err && place < net->spec.blocks; place++)
            err = add_block(net, a, stage, place, isa);
    net->head_count = a->stages;
    net->feature_count = net->head_features[0];
    return err;
}

int resnet_new(struct resnet **out, const struct resnet_spec *spec, enum conv_isa isa)
{
    if (!spec_valid(spec))
        return ERR_INVALID;
    const struct architecture *a = &architectures[spec->arch];
    size_t blocks = (size_t)a->stages * (size_t)spec->blocks, layers = 1 + 3 * blocks;
    int err = ERR_NOMEM;
    struct resnet *net = calloc(1, sizeof *net);
    if (!net)
        return ERR_NOMEM;
    net->spec = *spec;
    net->isa = isa;
    net->blocks = calloc(1 + blocks, sizeof *net->blocks);
    net->layers = calloc(layers, sizeof *net->layers);
    net->params.entries =
        calloc(layers * LAYER_ENTRIES + 2 * RESNET_MAX_HEADS, sizeof *net->params.entries);
    if (!net->blocks || !net->layers || !net->params.entries)
        goto fail;
    err = add_blocks(net, a, isa);
    if (err)
        goto fail;
    add_entries(net);
    *out = net;
    return 0;
fail:
    resnet_free(net);
    return err;
}

int resnet_set_precision(struct resnet *net, enum conv_precision precision)
{
    if (!conv_precision_available(precision, net->isa))
        return ERR_INVALID;
    for (int i = 0; i < net->layer_count; i++) {
        struct conv *c = &net->layers[i].conv;
        int err = conv_init(c, c->h, c->w, c->cin, c->cout, c->k, c->stride, net->isa, precision);
        if (err)
            return err;
    }
    return 0;
}

void resnet_free(struct resnet *net)
{
    if (!net)
        return;
    free(net->blocks);
    free(net->layers);
    free(net->params.entries);
    free(net);
}

/* Each entry draws from a stream of its own, so adding entries never changes the others. */
static void initialise_entry(const struct param_entry *e, int index, uint64_t seed, float *params)
{
    float *p = params + e->offset;
    float constant = e->kind == PARAM_BN_GAMMA || e->kind == PARAM_BN_VAR ? 1.0f : 0.0f;
    float bound;
    struct rng r;
    rng_init(&r, seed, (uint64_t)INIT_STREAM << 32 | (uint64_t)index);
    switch (e->kind) {
    case PARAM_CONV_WEIGHT: /* He et al. 2015, fan-out: K*K*Cout */
        bound = sqrtf(2.0f / (float)(e->dims[0] * e->dims[1] * e->dims[3]));
        for (size_t i = 0; i < e->count; i++)
            p[i] = bound * rng_normal(&r);
        break;
    case PARAM_HEAD_WEIGHT:
        bound = 1.0f / sqrtf((float)e->dims[1]);
        for (size_t i = 0; i < e->count; i++)
            p[i] = bound * (2 * rng_uniform(&r) - 1);
        break;
    case PARAM_BN_GAMMA:
    case PARAM_BN_BETA:
    case PARAM_HEAD_BIAS:
    case PARAM_BN_MEAN:
    case PARAM_BN_VAR:
        for (size_t i = 0; i < e->count; i++)
            p[i] = constant;
        break;
    }
}

void resnet_initialise(const struct resnet *net, uint64_t seed, float *params)
{
    for (int i = 0; i < net->params.entry_count; i++)
        initialise_entry(&net->params.entries[i], i, seed, params);
}

void resnet_grow(const struct resnet *old_net, const float *old_params, const struct resnet *net,
                 uint64_t seed, float *params)
{
    resnet_initialise(net, seed, params);
    for (int i = 0; i < net->params.entry_count; i++) {
        const struct param_entry *from = &old_net->params.entries[i], *to = &net->params.entries[i];
        memcpy(params + to->offset, old_params + from->offset, from->count * sizeof *params);
    }
}
