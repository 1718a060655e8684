/*
 * train_forward.c - the forward pass of a training step, block by block; see train.h.
 */
#include <string.h>

#include "core/err.h"
#include "core/model/train_state.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/nn/pool.h"

#define RUNNING_MOMENTUM 0.1f

void pack_weights(struct train *t, int member, enum conv_pass pass, const float *params)
{
    int lo, hi;
    gang_slice(t->net->layer_count, member, t->gang_size, &lo, &hi);
    for (int i = lo; i < hi; i++) {
        const struct resnet_layer *l = &t->net->layers[i];
        conv_pack(&l->conv, pass, params + t->net->params.entries[l->weight].offset,
                  t->layers[i].packed);
    }
}

/* After the barrier: batch statistics of a layer into this member's vectors; member 0 moves the running ones. */
static void finish_statistics(struct train *t, int member, int n, int layer, float *params)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    const struct param_entry *entries = t->net->params.entries;
    struct norm_vectors *v = &t->layers[layer].norm[member];
    double sum[NORM_MAX_CHANNELS], squares[NORM_MAX_CHANNELS];
    float var[NORM_MAX_CHANNELS];
    int c = l->conv.cout;
    double count = (double)n * resnet_pixels(l);
    total_sums(t, layer, SUM_Y, sum);
    total_sums(t, layer, SUM_YY, squares);
    norm_statistics(c, count, sum, squares, v->mean, var, v->inv);
    norm_affine(c, params + entries[l->gamma].offset, params + entries[l->beta].offset, v->mean,
                v->inv, v->scale, v->shift);
    if (member)
        return;
    float *mean = params + entries[l->mean].offset, *running = params + entries[l->var].offset;
    float unbias = count > 1 ? (float)(count / (count - 1)) : 1.0f;
    for (int i = 0; i < c; i++) {
        mean[i] += RUNNING_MOMENTUM * (v->mean[i] - mean[i]);
        running[i] += RUNNING_MOMENTUM * (var[i] * unbias - running[i]);
    }
}

/* Output of the stem for image i, from the outputs y of its convolution. */
static void make_stem(struct train *t, int member, int i, float *a)
{
    const struct resnet_block *b = &t->net->blocks[0];
    const struct conv *c = &t->net->layers[b->last].conv;
    const struct norm_vectors *v = &t->layers[b->last].norm[member];
    float *full = b->max_pool ? t->members[member].side : a;
    norm_relu(c->oh * c->ow, c->cout, image_y(t, b->last, i), v->scale, v->shift, full);
    if (b->max_pool)
        pool_max(c->oh, c->ow, c->cout, full, a, image_winners(t, i));
}

/* What block k > 0 adds to its second batch norm. Borrowed. */
static const float *block_shortcut(struct train *t, int member, int k, int i)
{
    const struct resnet_block *b = &t->net->blocks[k];
    const struct conv *c1 = &t->net->layers[b->first].conv;
    const float *in = block_output(t, member, k - 1, i);
    float *side = t->members[member].side;
    const struct norm_vectors *v;
    switch (b->shortcut) {
    case SHORTCUT_NONE:
    case SHORTCUT_IDENTITY:
        return in;
    case SHORTCUT_SUBSAMPLE:
        pool_shortcut(c1->h, c1->w, c1->cin, c1->cout, in, side);
        break;
    case SHORTCUT_PROJECTION:
        v = &t->layers[b->projection].norm[member];
        norm_apply(b->height * b->width, b->channels, image_y(t, b->projection, i), v->scale,
                   v->shift, side);
        break;
    }
    return side;
}

/* Output a of block k for image i, from the outputs y of its last convolution and the block below. */
static void make_output(struct train *t, int member, int k, int i, float *a)
{
    const struct resnet_block *b = &t->net->blocks[k];
    const struct norm_vectors *v = &t->layers[b->last].norm[member];
    if (k == 0)
        make_stem(t, member, i, a);
    else
        norm_add_relu(b->height * b->width, b->channels, image_y(t, b->last, i), v->scale,
                      v->shift, block_shortcut(t, member, k, i), a);
}

const float *block_output(struct train *t, int member, int k, int i)
{
    struct member_state *me = &t->members[member];
    if (t->blocks[k])
        return image_block(t, k, i);
    if (me->remade_block != k || me->remade_image != i) {
        make_output(t, member, k, i, me->remade); /* on top of the block below, in the same place */
        me->remade_block = k;
        me->remade_image = i;
    }
    return me->remade;
}

/* What is kept of block k's output for image i: the output itself, or its head's features. */
static void close_block(struct train *t, int member, int k, int i)
{
    const struct resnet_block *b = &t->net->blocks[k];
    if (!t->blocks[k])
        return;
    make_output(t, member, k, i, image_block(t, k, i));
    if (b->head >= 0)
        pool_average(b->height * b->width, b->channels, image_block(t, k, i),
                     t->features[b->head] + (size_t)i * b->channels);
}

float *fill_xpad(struct train *t, int member, int layer, int i)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    const struct conv *c = &l->conv;
    float *xpad = t->members[member].pads[t->layers[layer].xpad];
    int pad = c->k / 2, inner = t->net->blocks[l->block].first;
    const struct norm_vectors *v = &t->layers[inner].norm[member];
    switch (l->role) {
    case LAYER_STEM:
        norm_copy_pad(c->h, c->w, c->cin, pad, train_input(t, i), xpad);
        break;
    case LAYER_CONV1:
    case LAYER_PROJECTION:
        norm_copy_pad(c->h, c->w, c->cin, pad, block_output(t, member, l->block - 1, i), xpad);
        break;
    case LAYER_CONV2:
        norm_relu_pad(c->h, c->w, c->cin, pad, image_y(t, inner, i), v->scale, v->shift, xpad);
        break;
    }
    return xpad;
}

static void clear_forward_sums(struct train *t, int member, int layer)
{
    double *sum = member_sums(t, layer, member, SUM_Y); /* SUM_YY follows */
    memset(sum, 0, (size_t)2 * t->net->layers[layer].conv.cout * sizeof *sum);
}

/* y of one image, and its share of the batch statistics. */
static void forward_conv(struct train *t, int member, int layer, int i)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    double *sum = member_sums(t, layer, member, SUM_Y);
    float *y = image_y(t, layer, i);
    conv_forward(&l->conv, fill_xpad(t, member, layer, i), t->layers[layer].packed, y,
                 t->members[member].scratch);
    norm_sums(resnet_pixels(l), l->conv.cout, y, sum, sum + l->conv.cout);
}

/* Closes the block below k, image by image while it is in the cache, and does all that takes its output. */
static void open_block(struct train *t, int member, int lo, int hi, int k)
{
    const struct resnet_block *b = &t->net->blocks[k];
    clear_forward_sums(t, member, b->first);
    if (b->projection >= 0)
        clear_forward_sums(t, member, b->projection);
    for (int i = lo; i < hi; i++) {
        if (k > 0)
            close_block(t, member, k - 1, i);
        forward_conv(t, member, b->first, i);
        if (b->projection >= 0)
            forward_conv(t, member, b->projection, i);
    }
}

static int forward_block(struct train *t, int member, int n, int lo, int hi, int k, float *params)
{
    const struct resnet_block *b = &t->net->blocks[k];
    open_block(t, member, lo, hi, k);
    int err = train_sync(t, member);
    if (err)
        return err;
    finish_statistics(t, member, n, b->first, params);
    if (b->projection >= 0)
        finish_statistics(t, member, n, b->projection, params);
    if (b->last == b->first)
        return 0;
    clear_forward_sums(t, member, b->last);
    for (int i = lo; i < hi; i++)
        forward_conv(t, member, b->last, i);
    err = train_sync(t, member);
    if (!err)
        finish_statistics(t, member, n, b->last, params);
    return err;
}

static void forward_heads(struct train *t, int lo, int hi, const float *params)
{
    const struct resnet *net = t->net;
    for (int h = 0; h < net->head_count; h++) {
        int f = net->head_features[h], c = net->spec.classes;
        linear_forward(hi - lo, f, c, t->features[h] + (size_t)lo * f,
                       params + net->params.entries[net->head_weight[h]].offset,
                       params + net->params.entries[net->head_bias[h]].offset,
                       train_logits(t, h, lo));
        memset(train_dlogits(t, h, lo), 0, (size_t)(hi - lo) * c * sizeof(float));
        memset(t->dfeatures[h] + (size_t)lo * f, 0, (size_t)(hi - lo) * f * sizeof(float));
    }
}

int train_forward(struct train *t, int member, int n, float *params)
{
    int lo, hi, err, top = t->net->block_count - 1;
    train_slice(t, n, member, &lo, &hi);
    t->members[member].remade_block = -1; /* of another batch */
    pack_weights(t, member, CONV_FORWARD, params);
    err = train_sync(t, member);
    for (int k = 0; !err && k <= top; k++)
        err = forward_block(t, member, n, lo, hi, k, params);
    if (err)
        return err;
    for (int i = lo; i < hi; i++)
        close_block(t, member, top, i);
    if (hi > lo)
        forward_heads(t, lo, hi, params);
    return 0;
}
