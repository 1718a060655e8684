#include <string.h>

#include "core/model/train_state.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/nn/pool.h"

static void backward_heads(struct train *t, int member, int lo, int hi, const float *params)
{
    const struct resnet *net = t->net;
    const struct param_entry *entries = net->params.entries;
    float *gradient = t->members[member].gradient;
    for (int h = 0; h < RESNET_HEADS; h++) {
        int f = net->head_features[h];
        float *dfeatures = t->dfeatures[h] + (size_t)lo * f;
        memset(dfeatures, 0, (size_t)(hi - lo) * f * sizeof *dfeatures);
        linear_backward(hi - lo, f, net->spec.classes, t->features[h] + (size_t)lo * f,
                        params + entries[net->head_weight[h]].offset, train_dlogits(t, h, lo),
                        dfeatures, gradient + entries[net->head_weight[h]].offset,
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

/* Gradient through one convolution for image i: fills dypad from (dz, y), adds to the weights' gradient and, but for
 * the stem, leaves the gradient of the input in the member's dx. */
static void backward_conv(struct train *t, int member, int layer, int i, const float *dz)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    const struct conv *c = &l->conv;
    struct layer_state *s = &t->layers[layer];
    struct member_state *me = &t->members[member];
    const struct norm_vectors *v = &s->norm[member];
    float *dypad = me->pads[s->dypad];
    norm_backward_pad(c->oh, c->ow, c->cout, c->k / 2, dz, image_y(t, layer, i), v->a, v->b, v->k,
                      dypad);
    if (layer > 0)
        conv_backward_data(c, dypad, s->packed, me->dx, me->scratch);
    conv_backward_weights(c, fill_xpad(t, member, layer, i), dypad,
                          me->gradient + t->net->params.entries[l->weight].offset, me->scratch);
}

static double *clear_backward_sums(struct train *t, int member, int layer)
{
    double *sum = member_sums(t, layer, member, SUM_DZ); /* SUM_DZY follows */
    memset(sum, 0, (size_t)2 * t->net->layers[layer].conv.cout * sizeof *sum);
    return sum;
}

/*
 * Gradients need no memory of their own. The gradient dz before the ReLU of block k's output takes
 * the place of that output a, image by image, as a is last read right then; the gradient inside the
 * block takes the place of the second convolution's output y, which is dead once its own
 * gradient is through.
 */
static float *image_dz_inner(struct train *t, int k, int i)
{
    return image_y(t, 2 * k, i);
}

static float *image_dz_block(struct train *t, int k, int i)
{
    return image_block(t, k, i);
}

/* dz of the last block's output, from the main head. */
static void backward_features(struct train *t, int member, int lo, int hi)
{
    int layer = 2 * t->block_count, c = t->net->layers[layer].conv.cout;
    int pixels = resnet_pixels(&t->net->layers[layer]);
    size_t size = (size_t)pixels * c;
    float *dx = t->members[member].dx;
    double *sum = clear_backward_sums(t, member, layer);
    for (int i = lo; i < hi; i++) {
        memset(dx, 0, size * sizeof *dx);
        pool_average_backward(pixels, c, t->dfeatures[0] + (size_t)i * c, dx);
        norm_relu_backward(pixels, c, dx, image_block(t, t->block_count, i), image_y(t, layer, i),
                           t->layers[layer].norm[member].mean,
                           image_dz_block(t, t->block_count, i), sum, sum + c);
    }
}

/* Second convolution of block k: dz of the block's output -> dz inside the block. */
static void backward_conv2(struct train *t, int member, int lo, int hi, int k)
{
    int layer = 2 * k;
    const struct resnet_layer *inner = &t->net->layers[layer - 1];
    const struct norm_vectors *v = &t->layers[layer - 1].norm[member];
    int pixels = resnet_pixels(inner), c = inner->conv.cout;
    double *sum = clear_backward_sums(t, member, layer - 1);
    for (int i = lo; i < hi; i++) {
        backward_conv(t, member, layer, i, image_dz_block(t, k, i));
        norm_relu_backward_recompute(pixels, c, t->members[member].dx, image_y(t, layer - 1, i),
                                     v->scale, v->shift, v->mean, image_dz_inner(t, k, i), sum,
                                     sum + c);
    }
}

/* First convolution of block k, the shortcut and the tap: dz inside -> dz of the previous block's output. */
static void backward_conv1(struct train *t, int member, int lo, int hi, int k)
{
    int layer = 2 * k - 1, previous = layer - 1, head = head_of_block(t, k - 1);
    const struct resnet_layer *l = &t->net->layers[layer], *in = &t->net->layers[previous];
    const struct conv *c1 = &l->conv;
    int pixels = resnet_pixels(in), c = in->conv.cout;
    size_t size = image_floats(l);
    float *dx = t->members[member].dx;
    double *sum = clear_backward_sums(t, member, previous);
    for (int i = lo; i < hi; i++) {
        const float *dz = image_dz_block(t, k, i);
        backward_conv(t, member, layer, i, image_dz_inner(t, k, i));
        if (c1->stride == 1)
            for (size_t j = 0; j < size; j++)
                dx[j] += dz[j];
        else
            pool_shortcut_backward(c1->h, c1->w, c1->cin, c1->cout, dz, dx);
        if (head >= 0)
            pool_average_backward(pixels, c, t->dfeatures[head] + (size_t)i * c, dx);
        norm_relu_backward(pixels, c, dx, image_block(t, k - 1, i), image_y(t, previous, i),
                           t->layers[previous].norm[member].mean, image_dz_block(t, k - 1, i), sum,
                           sum + c);
    }
}

static void backward_stem(struct train *t, int member, int lo, int hi)
{
    for (int i = lo; i < hi; i++)
        backward_conv(t, member, 0, i, image_dz_block(t, 0, i));
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
    for (int k = t->block_count; k > 0; k--) {
        int err = train_sync(t, member);
        if (err)
            return err;
        finish_backward(t, member, n, 2 * k, params);
        backward_conv2(t, member, lo, hi, k);
        err = train_sync(t, member);
        if (err)
            return err;
        finish_backward(t, member, n, 2 * k - 1, params);
        backward_conv1(t, member, lo, hi, k);
    }
    return train_sync(t, member);
}

int train_backward(struct train *t, int member, int n, const float *params)
{
    int lo, hi;
    train_slice(t, n, member, &lo, &hi);
    if (hi > lo)
        backward_heads(t, member, lo, hi, params);
    backward_features(t, member, lo, hi);
    int err = backward_blocks(t, member, n, lo, hi, params);
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
