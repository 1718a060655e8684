/*
 * train.c - the workspace of a training step, and what its members share; see train.h.
 */
#include "core/model/train.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/model/train_state.h"

/* ---- set-up ---- */

enum { KEEP_EVERY = 6 };

/* Index of the padded buffer of this shape, added when new. */
static int pad_index(struct train *t, enum pad_role role, int h, int w, int c, int pad,
                     size_t floats)
{
    for (int i = 0; i < t->pad_count; i++) {
        struct pad_shape *s = &t->pads[i];
        if (s->role == role && s->h == h && s->w == w && s->c == c && s->pad == pad) {
            if (s->floats < floats)
                s->floats = floats;
            return i;
        }
    }
    t->pads[t->pad_count] = (struct pad_shape){role, h, w, c, pad, floats};
    return t->pad_count++;
}

static float *floats(struct train *t, size_t count)
{
    return arena_alloc(&t->arena, count, sizeof(float));
}

static int alloc_norm(struct train *t, struct layer_state *s, int c)
{
    s->norm = arena_alloc(&t->arena, (size_t)t->gang_size, sizeof *s->norm);
    s->sums = arena_alloc(&t->arena, (size_t)t->gang_size * SUM_COUNT * c, sizeof *s->sums);
    if (!s->norm || !s->sums)
        return ERR_NOMEM;
    for (int m = 0; m < t->gang_size; m++) {
        struct norm_vectors *v = &s->norm[m];
        float **all[] = {&v->mean, &v->inv, &v->scale, &v->shift, &v->a, &v->b, &v->k};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            if (!(*all[i] = floats(t, (size_t)c)))
                return ERR_NOMEM;
    }
    return 0;
}

static int alloc_layer(struct train *t, int index)
{
    const struct resnet_layer *l = &t->net->layers[index];
    const struct conv *c = &l->conv;
    struct layer_state *s = &t->layers[index];
    int pad = c->k / 2;
    s->xpad = pad_index(t, PAD_INPUT, c->h, c->w, c->cin, pad, conv_xpad_floats(c));
    s->dypad = pad_index(t, PAD_GRADIENT, c->oh, c->ow, c->cout, pad, conv_dypad_floats(c));
    size_t forward = conv_packed_floats(c, CONV_FORWARD);
    size_t data = conv_packed_floats(c, CONV_BACKWARD_DATA);
    s->packed = floats(t, forward > data ? forward : data);
    s->y = floats(t, (size_t)t->batch_max * resnet_layer_floats(l));
    if (!s->packed || !s->y)
        return ERR_NOMEM;
    return alloc_norm(t, s, c->cout);
}

static int alloc_member(struct train *t, struct member_state *m, size_t image, size_t scratch,
                        const size_t sums[2])
{
    m->dx = floats(t, image);
    m->side = floats(t, image);
    m->remade = floats(t, image);
    m->scratch = floats(t, scratch);
    m->sums[0] = floats(t, sums[0]);
    m->sums[1] = floats(t, sums[1]);
    m->gradient = floats(t, t->net->params.trained_count);
    if (!m->dx || !m->side || !m->remade || !m->scratch || !m->sums[0] || !m->sums[1] || !m->gradient)
        return ERR_NOMEM;
    memset(m->sums[0], 0, sums[0] * sizeof(float));
    memset(m->sums[1], 0, sums[1] * sizeof(float));
    memset(m->gradient, 0, t->net->params.trained_count * sizeof(float));
    for (int i = 0; i < t->pad_count; i++) {
        m->pads[i] = floats(t, t->pads[i].floats);
        if (!m->pads[i])
            return ERR_NOMEM;
        memset(m->pads[i], 0, t->pads[i].floats * sizeof(float));
    }
    return 0;
}

static int alloc_heads(struct train *t)
{
    const struct resnet *net = t->net;
    size_t n = (size_t)t->batch_max;
    for (int i = 0; i < net->head_count; i++) {
        t->features[i] = floats(t, n * net->head_features[i]);
        t->dfeatures[i] = floats(t, n * net->head_features[i]);
        t->logits[i] = floats(t, n * net->spec.classes);
        t->dlogits[i] = floats(t, n * net->spec.classes);
        if (!t->features[i] || !t->dfeatures[i] || !t->logits[i] || !t->dlogits[i])
            return ERR_NOMEM;
    }
    return 0;
}

/*
 * Whether the output of a block is kept from forward to backward. Inside a stage it is not: it is
 * one multiply-add and one addition a value away from y and the block below, so making it again,
 * image by image, costs little and saves a fifth of the memory. KEEP_EVERY bounds the blocks that
 * are made again one on top of the other.
 */
static bool output_kept(const struct resnet_block *b)
{
    return b->head >= 0 || b->max_pool || b->place % KEEP_EVERY == KEEP_EVERY - 1;
}

static int alloc_blocks(struct train *t)
{
    const struct resnet *net = t->net;
    size_t n = (size_t)t->batch_max;
    for (int k = 0; k < net->block_count; k++) {
        if (!output_kept(&net->blocks[k]))
            continue;
        t->blocks[k] = floats(t, n * resnet_block_floats(&net->blocks[k]));
        if (!t->blocks[k])
            return ERR_NOMEM;
    }
    if (!net->blocks[0].max_pool)
        return 0;
    t->winners = arena_alloc(&t->arena, n * resnet_block_floats(&net->blocks[0]), 1);
    return t->winners ? 0 : ERR_NOMEM;
}

static int alloc_all(struct train *t)
{
    const struct resnet *net = t->net;
    const struct resnet_spec *spec = &net->spec;
    size_t n = (size_t)t->batch_max, image = 0, scratch = 16, sums[2] = {16, 16};
    for (int i = 0; i < net->layer_count; i++) {
        const struct conv *c = &net->layers[i].conv;
        size_t in = (size_t)c->h * c->w * c->cin, out = resnet_layer_floats(&net->layers[i]);
        image = image > in ? image : in;
        image = image > out ? image : out;
        if (scratch < conv_scratch_floats(c))
            scratch = conv_scratch_floats(c);
        size_t *layer_sums = &sums[net->layers[i].role == LAYER_PROJECTION];
        if (*layer_sums < conv_sums_floats(c))
            *layer_sums = conv_sums_floats(c);
        if (alloc_layer(t, i))
            return ERR_NOMEM;
    }
    t->input = floats(t, n * spec->height * spec->width * spec->channels);
    t->gradient = floats(t, net->params.trained_count);
    if (!t->input || !t->gradient || alloc_blocks(t))
        return ERR_NOMEM;
    for (int m = 0; m < t->gang_size; m++)
        if (alloc_member(t, &t->members[m], image, scratch, sums))
            return ERR_NOMEM;
    return alloc_heads(t);
}

int train_new(struct train **out, const struct resnet *net, struct gang *gang, int batch_max,
              const atomic_int *command)
{
    struct train *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NOMEM;
    t->net = net;
    t->gang = gang;
    t->command = command;
    t->gang_size = gang_size(gang);
    t->batch_max = batch_max;
    t->layers = calloc((size_t)net->layer_count, sizeof *t->layers);
    t->members = calloc((size_t)t->gang_size, sizeof *t->members);
    t->blocks = calloc((size_t)net->block_count, sizeof *t->blocks);
    int err = ERR_NOMEM;
    if (!t->layers || !t->members || !t->blocks)
        goto fail;
    /* Address space only (arena.h): more than a machine has. */
    err = arena_init(&t->arena, (size_t)1 << 38);
    if (err)
        goto fail;
    err = alloc_all(t);
    if (err)
        goto fail;
    *out = t;
    return 0;
fail:
    train_free(t);
    return err;
}

void train_free(struct train *t)
{
    if (!t)
        return;
    arena_release(&t->arena);
    free(t->layers);
    free(t->members);
    free(t->blocks);
    free(t);
}

/* ---- small accessors ---- */

void train_slice(const struct train *t, int n, int member, int *lo, int *hi)
{
    gang_slice(n, member, t->gang_size, lo, hi);
}

float *train_input(struct train *t, int i)
{
    const struct resnet_spec *s = &t->net->spec;
    return t->input + (size_t)i * s->height * s->width * s->channels;
}

float *train_logits(struct train *t, int head, int i)
{
    return t->logits[head] + (size_t)i * t->net->spec.classes;
}

float *train_dlogits(struct train *t, int head, int i)
{
    return t->dlogits[head] + (size_t)i * t->net->spec.classes;
}

const float *train_features(const struct train *t, int i)
{
    return t->features[0] + (size_t)i * t->net->feature_count;
}

float *train_dfeatures(struct train *t, int i)
{
    return t->dfeatures[0] + (size_t)i * t->net->feature_count;
}

const float *train_gradient(const struct train *t)
{
    return t->gradient;
}

/* ---- between members ---- */

int train_sync(struct train *t, int member)
{
    int slot = t->members[member].sync_count++ & 1;
    if (member == 0)
        t->latched[slot] = t->command ? atomic_load_explicit(t->command, memory_order_relaxed) : 0;
    gang_barrier(t->gang);
    return t->latched[slot] ? ERR_CANCELLED : 0;
}

void total_sums(struct train *t, int layer, int which, double *total)
{
    int c = t->net->layers[layer].conv.cout;
    memcpy(total, member_sums(t, layer, 0, which), (size_t)c * sizeof *total);
    for (int m = 1; m < t->gang_size; m++) {
        const double *part = member_sums(t, layer, m, which);
        for (int i = 0; i < c; i++)
            total[i] += part[i];
    }
}
