#include "core/model/resnet.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/nn/rng.h"

enum { STEM_CHANNELS = 16, INIT_STREAM = 1, PLACE_BYTES = 48 };

static bool spec_valid(const struct resnet_spec *s)
{
    return s->blocks >= 1 && s->blocks <= RESNET_MAX_BLOCKS && s->channels >= 1 &&
           s->channels <= 4 && s->height >= 8 && s->height <= 512 && s->width >= 8 &&
           s->width <= 512 && s->classes >= 1 && s->classes <= RESNET_MAX_CLASSES;
}

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

/* "stem" for layer 0, else "stage1.block0.conv1" without the last part, and 1 or 2. */
static void layer_place(const struct resnet *net, int layer, char *place, size_t place_bytes,
                        int *which)
{
    int block = (layer - 1) / 2, n = net->spec.blocks;
    *which = layer == 0 ? 1 : (layer - 1) % 2 + 1;
    if (layer == 0)
        snprintf(place, place_bytes, "stem");
    else
        snprintf(place, place_bytes, "stage%d.block%d", block / n + 1, block % n);
}

static void add_layer_entries(struct resnet *net, int layer)
{
    struct resnet_layer *l = &net->layers[layer];
    const struct conv *c = &l->conv;
    char place[PLACE_BYTES];
    int which;
    layer_place(net, layer, place, sizeof place, &which);
    l->weight = add_entry(&net->params, PARAM_CONV_WEIGHT,
                          (int[4]){c->k, c->k, c->cin, c->cout}, "%s.conv%d.weight", place,
                          which);
    l->gamma = add_entry(&net->params, PARAM_BN_GAMMA, (int[4]){c->cout}, "%s.bn%d.gamma", place,
                         which);
    l->beta = add_entry(&net->params, PARAM_BN_BETA, (int[4]){c->cout}, "%s.bn%d.beta", place,
                        which);
}

static void add_head_entries(struct resnet *net)
{
    static const char *const names[RESNET_HEADS] = {"head", "aux1", "aux2"};
    for (int i = 0; i < RESNET_HEADS; i++) {
        net->head_weight[i] =
            add_entry(&net->params, PARAM_HEAD_WEIGHT,
                      (int[4]){net->spec.classes, net->head_features[i]}, "%s.weight", names[i]);
        net->head_bias[i] = add_entry(&net->params, PARAM_HEAD_BIAS, (int[4]){net->spec.classes},
                                      "%s.bias", names[i]);
    }
}

static void add_running_entries(struct resnet *net)
{
    for (int i = 0; i < net->layer_count; i++) {
        struct resnet_layer *l = &net->layers[i];
        char place[PLACE_BYTES];
        int which;
        layer_place(net, i, place, sizeof place, &which);
        l->mean = add_entry(&net->params, PARAM_BN_MEAN, (int[4]){l->conv.cout}, "%s.bn%d.mean",
                            place, which);
        l->var = add_entry(&net->params, PARAM_BN_VAR, (int[4]){l->conv.cout}, "%s.bn%d.var",
                           place, which);
    }
}

/* The convolutions in forward order: stem, then conv1 and conv2 of every block. */
static int init_layers(struct resnet *net, enum conv_isa isa)
{
    const struct resnet_spec *s = &net->spec;
    int h = s->height, w = s->width, cin = s->channels;
    for (int i = 0; i < net->layer_count; i++) {
        int block = (i - 1) / 2, stage = i == 0 ? 0 : block / s->blocks;
        int cout = STEM_CHANNELS << stage;
        bool halves = i > 0 && (i - 1) % 2 == 0 && stage > 0 && block % s->blocks == 0;
        struct conv *c = &net->layers[i].conv;
        int err = conv_init(c, h, w, cin, cout, 3, halves ? 2 : 1, isa,
                            CONV_FP32);
        if (err)
            return err;
        h = c->oh;
        w = c->ow;
        cin = cout;
    }
    return 0;
}

int resnet_new(struct resnet **out, const struct resnet_spec *spec, enum conv_isa isa)
{
    if (!spec_valid(spec))
        return ERR_INVALID;
    int err = ERR_NOMEM;
    struct resnet *net = calloc(1, sizeof *net);
    if (!net)
        return ERR_NOMEM;
    net->spec = *spec;
    net->layer_count = 6 * spec->blocks + 1;
    net->layers = calloc((size_t)net->layer_count, sizeof *net->layers);
    net->params.entries =
        calloc((size_t)net->layer_count * 5 + 2 * RESNET_HEADS, sizeof *net->params.entries);
    if (!net->layers || !net->params.entries)
        goto fail;
    err = init_layers(net, isa);
    if (err)
        goto fail;
    for (int i = 0; i < RESNET_HEADS; i++) /* main head on stage 3, taps on stages 1 and 2 */
        net->head_features[i] = STEM_CHANNELS << (i == 0 ? RESNET_STAGES - 1 : i - 1);
    for (int i = 0; i < net->layer_count; i++)
        add_layer_entries(net, i);
    add_head_entries(net);
    net->params.trained_count = net->params.count;
    add_running_entries(net);
    *out = net;
    return 0;
fail:
    resnet_free(net);
    return err;
}

void resnet_free(struct resnet *net)
{
    if (!net)
        return;
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
