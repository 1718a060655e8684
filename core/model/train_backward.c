/*
 * train_backward.c - the backward pass of a training step, block by block; see train.h.
 */
#include <string.h>

#include "core/model/train_state.h"
#include "core/nn/clones.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/nn/pool.h"

static void backward_heads(struct train *t, int member, int lo, int hi, const float *params)
{
    const struct resnet *net = t->net;
    const struct param_entry *entries = net->params.entries;
    float *gradient = t->members[member].gradient;
    for (int h = 0; h < net->head_count; h++) {
        int f = net->head_features[h];
        linear_backward(hi - lo, f, net->spec.classes, t->features[h] + (size_t)lo * f,
                        params + entries[net->head_weight[h]].offset, train_dlogits(t, h, lo),
                        t->dfeatures[h] + (size_t)lo * f,
                        gradient + entries[net->head_weight[h]].offset,
                        gradient + entries[net->head_bias[h]].offset);
    }
}

/* Coefficients of the batch norm's backward pass, after the barrier that completed its sums; member 0 keeps the
 * gradients of gamma and beta, which are sums over the whole batch already. */
static void finish_backward(struct train *t, int member, int n, int layer, const float *params)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    const struct param_entry *entries = t->net->params.entries;
    struct norm_vectors *v = &t->layers[layer].norm[member];
    double sum[NORM_MAX_CHANNELS], sum_y[NORM_MAX_CHANNELS];
    float *gradient = t->members[member].gradient;
    total_sums(t, layer, SUM_DZ, sum);
    total_sums(t, layer, SUM_DZY, sum_y);
    norm_backward_affine(l->conv.cout, (double)n * resnet_pixels(l), sum, sum_y,
                         params + entries[l->gamma].offset, v->mean, v->inv, v->a, v->b, v->k,
                         member ? NULL : gradient + entries[l->gamma].offset,
                         member ? NULL : gradient + entries[l->beta].offset);
}

/* Gradient through one convolution for image i: fills dypad from (dz, y), adds to the sums of the weights' gradient
 * and, unless dx is NULL, leaves the gradient of the input there. */
static void backward_conv(struct train *t, int member, int layer, int i, const float *dz,
                          float *dx)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    const struct conv *c = &l->conv;
    struct layer_state *s = &t->layers[layer];
    struct member_state *me = &t->members[member];
    const struct norm_vectors *v = &s->norm[member];
    float *dypad = me->pads[s->dypad];
    norm_backward_pad(c->oh, c->ow, c->cout, c->k / 2, dz, image_y(t, layer, i), v->a, v->b, v->k,
                      dypad);
    if (dx)
        conv_backward_data(c, dypad, s->packed, dx, me->scratch);
    conv_backward_weights(c, fill_xpad(t, member, layer, i), dypad,
                          me->sums[l->role == LAYER_PROJECTION], me->scratch);
}

/* After the last image of a layer. */
static void finish_conv(struct train *t, int member, int layer)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    struct member_state *me = &t->members[member];
    conv_finish_weights(&l->conv, me->sums[l->role == LAYER_PROJECTION],
                        me->gradient + t->net->params.entries[l->weight].offset);
}

static void clear_backward_sums(struct train *t, int member, int layer)
{
    double *sum = member_sums(t, layer, member, SUM_DZ); /* SUM_DZY follows */
    memset(sum, 0, (size_t)2 * t->net->layers[layer].conv.cout * sizeof *sum);
}

/*
 * Gradients need no memory of their own. The gradient dz before the ReLU of block k's output takes
 * the place of that output a, image by image, as a is last read right then; where a is not kept, it
 * takes the place of the first y of the block above, which has the same shape and is dead by then.
 * The gradient inside the block takes the place of the second convolution's output y, which is dead
 * once its own gradient is through.
 */
static float *image_dz_inner(struct train *t, int k, int i)
{
    return image_y(t, t->net->blocks[k].last, i);
}

static float *image_dz_block(struct train *t, int k, int i)
{
    return t->blocks[k] ? image_block(t, k, i) : image_y(t, t->net->blocks[k + 1].first, i);
}

static void clear_block_sums(struct train *t, int member, int k)
{
    const struct resnet_block *b = &t->net->blocks[k];
    clear_backward_sums(t, member, b->last);
    if (b->projection >= 0)
        clear_backward_sums(t, member, b->projection);
}

/*
 * From the gradient of block k's output, in the member's dx, to dz before the ReLU that closed it,
 * and the sums of the batch norms that dz goes through next. Under max pooling all but the winners
 * have no gradient, so dz is kept for the pooled pixels alone, with the winners' y.
 */
static void reopen_block(struct train *t, int member, int k, int i)
{
    const struct resnet_block *b = &t->net->blocks[k];
    const struct conv *c = &t->net->layers[b->last].conv;
    struct member_state *me = &t->members[member];
    const float *y = image_y(t, b->last, i);
    float *dz = image_dz_block(t, k, i);
    double *sum = member_sums(t, b->last, member, SUM_DZ);
    int pixels = b->height * b->width;
    if (b->max_pool) {
        pool_max_pick(c->oh, c->ow, c->cout, y, image_winners(t, i), me->side);
        y = me->side;
    }
    norm_relu_backward(pixels, b->channels, me->dx, block_output(t, member, k, i), y,
                       t->layers[b->last].norm[member].mean, dz, sum, sum + b->channels);
    if (b->projection < 0)
        return;
    sum = member_sums(t, b->projection, member, SUM_DZ);
    norm_backward_sums(pixels, b->channels, dz, image_y(t, b->projection, i),
                       t->layers[b->projection].norm[member].mean, sum, sum + b->channels);
}

/* Adds what comes from the head that hangs on block k. */
static void add_head_gradient(struct train *t, int member, int k, int i)
{
    const struct resnet_block *b = &t->net->blocks[k];
    if (b->head >= 0)
        pool_average_backward(b->height * b->width, b->channels,
                              t->dfeatures[b->head] + (size_t)i * b->channels,
                              t->members[member].dx);
}

/* dz of the last block's output, from the main head. */
static void backward_features(struct train *t, int member, int lo, int hi)
{
    int top = t->net->block_count - 1;
    size_t size = resnet_block_floats(&t->net->blocks[top]);
    float *dx = t->members[member].dx;
    clear_block_sums(t, member, top);
    for (int i = lo; i < hi; i++) {
        memset(dx, 0, size * sizeof *dx);
        add_head_gradient(t, member, top, i);
        reopen_block(t, member, top, i);
    }
}

/* Second convolution of block k: dz of the block's output -> dz inside the block. */
static void backward_inner(struct train *t, int member, int lo, int hi, int k)
{
    const struct resnet_block *b = &t->net->blocks[k];
    const struct resnet_layer *inner = &t->net->layers[b->first];
    const struct norm_vectors *v = &t->layers[b->first].norm[member];
    int pixels = resnet_pixels(inner), c = inner->conv.cout;
    float *dx = t->members[member].dx;
    double *sum = member_sums(t, b->first, member, SUM_DZ);
    clear_backward_sums(t, member, b->first);
    for (int i = lo; i < hi; i++) {
        backward_conv(t, member, b->last, i, image_dz_block(t, k, i), dx);
        norm_relu_backward_recompute(pixels, c, dx, image_y(t, b->first, i), v->scale, v->shift,
                                     v->mean, image_dz_inner(t, k, i), sum, sum + c);
    }
    finish_conv(t, member, b->last);
}

NN_CLONES
static void add_image(size_t size, const float *restrict from, float *restrict to)
{
    for (size_t j = 0; j < size; j++)
        to[j] += from[j];
}

/* Adds what comes through block k's shortcut, from dz of its output, to the gradient of its input. */
static void backward_shortcut(struct train *t, int member, int k, int i)
{
    const struct resnet_block *b = &t->net->blocks[k];
    const struct conv *c1 = &t->net->layers[b->first].conv;
    struct member_state *me = &t->members[member];
    const float *dz = image_dz_block(t, k, i);
    size_t size = resnet_block_floats(b - 1);
    switch (b->shortcut) {
    case SHORTCUT_NONE:
        break;
    case SHORTCUT_IDENTITY:
        add_image(size, dz, me->dx);
        break;
    case SHORTCUT_SUBSAMPLE:
        pool_shortcut_backward(c1->h, c1->w, c1->cin, c1->cout, dz, me->dx);
        break;
    case SHORTCUT_PROJECTION:
        backward_conv(t, member, b->projection, i, dz, me->side);
        add_image(size, me->side, me->dx);
        break;
    }
}

/* First convolution of block k, the shortcut and the tap: dz inside -> dz of the output of the block below. */
static void backward_outer(struct train *t, int member, int lo, int hi, int k)
{
    clear_block_sums(t, member, k - 1);
    for (int i = lo; i < hi; i++) {
        backward_conv(t, member, t->net->blocks[k].first, i, image_dz_inner(t, k, i),
                      t->members[member].dx);
        backward_shortcut(t, member, k, i);
        add_head_gradient(t, member, k - 1, i);
        reopen_block(t, member, k - 1, i);
    }
    finish_conv(t, member, t->net->blocks[k].first);
    if (t->net->blocks[k].projection >= 0)
        finish_conv(t, member, t->net->blocks[k].projection);
}

static void backward_stem(struct train *t, int member, int lo, int hi)
{
    const struct resnet_block *b = &t->net->blocks[0];
    const struct resnet_layer *l = &t->net->layers[b->last];
    float *full = t->members[member].dx;
    for (int i = lo; i < hi; i++) {
        const float *dz = image_dz_block(t, 0, i);
        if (b->max_pool) {
            memset(full, 0, resnet_layer_floats(l) * sizeof *full);
            pool_max_backward(l->conv.oh, l->conv.ow, l->conv.cout, dz, image_winners(t, i), full);
            dz = full;
        }
        backward_conv(t, member, b->last, i, dz, NULL);
    }
    finish_conv(t, member, b->last);
}

/* Adds the members' gradients in member order, each member its range, and clears them for the next step. */
static void reduce_gradient(struct train *t, int member)
{
    int lo, hi;
    gang_slice((int)t->net->params.trained_count, member, t->gang_size, &lo, &hi);
    size_t bytes = (size_t)(hi - lo) * sizeof(float);
    memcpy(t->gradient + lo, t->members[0].gradient + lo, bytes);
    memset(t->members[0].gradient + lo, 0, bytes);
    for (int m = 1; m < t->gang_size; m++) {
        float *part = t->members[m].gradient;
        for (int i = lo; i < hi; i++)
            t->gradient[i] += part[i];
        memset(part + lo, 0, bytes);
    }
}

static void clear_gradient(struct train *t, int member)
{
    memset(t->members[member].gradient, 0, t->net->params.trained_count * sizeof(float));
}

/* The blocks from last to first. */
static int backward_blocks(struct train *t, int member, int n, int lo, int hi, const float *params)
{
    for (int k = t->net->block_count - 1; k > 0; k--) {
        const struct resnet_block *b = &t->net->blocks[k];
        int err = train_sync(t, member);
        if (err)
            return err;
        finish_backward(t, member, n, b->last, params);
        if (b->projection >= 0)
            finish_backward(t, member, n, b->projection, params);
        backward_inner(t, member, lo, hi, k);
        err = train_sync(t, member);
        if (err)
            return err;
        finish_backward(t, member, n, b->first, params);
        backward_outer(t, member, lo, hi, k);
    }
    return train_sync(t, member);
}

int train_backward(struct train *t, int member, int n, const float *params)
{
    int lo, hi;
    int err = train_sync(t, member);
    if (err)
        return err;
    pack_weights(t, member, CONV_BACKWARD_DATA, params);
    train_slice(t, n, member, &lo, &hi);
    if (hi > lo)
        backward_heads(t, member, lo, hi, params);
    backward_features(t, member, lo, hi);
    err = backward_blocks(t, member, n, lo, hi, params);
    if (!err) {
        finish_backward(t, member, n, 0, params);
        backward_stem(t, member, lo, hi);
        err = train_sync(t, member);
    }
    if (err) {
        clear_gradient(t, member);
        return err;
    }
    reduce_gradient(t, member);
    gang_barrier(t->gang);
    return 0;
}
