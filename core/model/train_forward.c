#include <string.h>

#include "core/err.h"
#include "core/model/train_state.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/nn/pool.h"

#define RUNNING_MOMENTUM 0.1f

static void pack_weights(struct train *t, int member, const float *params)
{
    int lo, hi;
    gang_slice(t->net->layer_count, member, t->gang_size, &lo, &hi);
    for (int i = lo; i < hi; i++) {
        const struct resnet_layer *l = &t->net->layers[i];
        conv_pack(&l->conv, params + t->net->params.entries[l->weight].offset,
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

/* What the block adds to its second batch norm: its input, subsampled where the shape changes. Borrowed. */
static const float *block_identity(struct train *t, struct member_state *me, int k, int i)
{
    const struct conv *c1 = &t->net->layers[2 * k - 1].conv;
    const float *in = image_block(t, k - 1, i);
    if (c1->stride == 1)
        return in;
    pool_shortcut(c1->h, c1->w, c1->cin, c1->cout, in, me->shortcut);
    return me->shortcut;
}

/* Output a of block k for image i, from the outputs y of its last convolution; and its head's features. */
static void close_block(struct train *t, int member, int k, int i)
{
    const struct resnet_layer *l = &t->net->layers[2 * k];
    struct norm_vectors *v = &t->layers[2 * k].norm[member];
    int pixels = resnet_pixels(l), c = l->conv.cout, head = head_of_block(t, k);
    float *a = image_block(t, k, i);
    if (k == 0)
        norm_relu(pixels, c, image_y(t, 0, i), v->scale, v->shift, a);
    else
        norm_add_relu(pixels, c, image_y(t, 2 * k, i), v->scale, v->shift,
                      block_identity(t, &t->members[member], k, i), a);
    if (head >= 0)
        pool_average(pixels, c, a, t->features[head] + (size_t)i * c);
}

float *fill_xpad(struct train *t, int member, int layer, int i)
{
    const struct conv *c = &t->net->layers[layer].conv;
    float *xpad = t->members[member].pads[t->layers[layer].xpad];
    int pad = c->k / 2;
    if (layer == 0) {
        norm_copy_pad(c->h, c->w, c->cin, pad, train_input(t, i), xpad);
    } else if (layer % 2) {
        norm_copy_pad(c->h, c->w, c->cin, pad, image_block(t, (layer - 1) / 2, i), xpad);
    } else {
        const struct norm_vectors *v = &t->layers[layer - 1].norm[member];
        norm_relu_pad(c->h, c->w, c->cin, pad, image_y(t, layer - 1, i), v->scale, v->shift, xpad);
    }
    return xpad;
}

static void forward_layer(struct train *t, int member, int lo, int hi, int layer)
{
    const struct resnet_layer *l = &t->net->layers[layer];
    struct layer_state *s = &t->layers[layer];
    double *sum = member_sums(t, layer, member, SUM_Y);
    memset(sum, 0, (size_t)2 * l->conv.cout * sizeof *sum); /* SUM_YY follows SUM_Y */
    for (int i = lo; i < hi; i++) {
        if (layer % 2)
            close_block(t, member, (layer - 1) / 2, i);
        float *y = image_y(t, layer, i);
        conv_forward(&l->conv, fill_xpad(t, member, layer, i), s->packed, y,
                     t->members[member].scratch);
        norm_sums(resnet_pixels(l), l->conv.cout, y, sum, sum + l->conv.cout);
    }
}

static void forward_heads(struct train *t, int lo, int hi, const float *params)
{
    const struct resnet *net = t->net;
    for (int h = 0; h < RESNET_HEADS; h++) {
        int f = net->head_features[h], c = net->spec.classes;
        linear_forward(hi - lo, f, c, t->features[h] + (size_t)lo * f,
                       params + net->params.entries[net->head_weight[h]].offset,
                       params + net->params.entries[net->head_bias[h]].offset,
                       train_logits(t, h, lo));
        memset(train_dlogits(t, h, lo), 0, (size_t)(hi - lo) * c * sizeof(float));
    }
}

int train_forward(struct train *t, int member, int n, float *params)
{
    int lo, hi, err;
    train_slice(t, n, member, &lo, &hi);
    pack_weights(t, member, params);
    err = train_sync(t, member);
    for (int layer = 0; !err && layer < t->net->layer_count; layer++) {
        forward_layer(t, member, lo, hi, layer);
        err = train_sync(t, member);
        if (!err)
            finish_statistics(t, member, n, layer, params);
    }
    if (err)
        return err;
    for (int i = lo; i < hi; i++)
        close_block(t, member, t->block_count, i);
    if (hi > lo)
        forward_heads(t, lo, hi, params);
    return 0;
}
