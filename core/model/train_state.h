/*
 * train_state.h - private to train*.c: the workspace of a training step.
 */
#ifndef ACCRETED_CORE_MODEL_TRAIN_STATE_H
#define ACCRETED_CORE_MODEL_TRAIN_STATE_H

#include "core/model/train.h"
#include "core/nn/arena.h"

/* Per-channel vectors of one batch norm, C floats each; every member computes its own copy from the shared sums, which
 * saves a barrier. */
struct norm_vectors {
    float *mean, *inv, *scale, *shift; /* forward */
    float *a, *b, *k;                  /* backward: dy = a*dz + b*y + k */
};

/* What belongs to one layer (convolution and batch norm). */
struct layer_state {
    float *packed;          /* weights as the kernels want them */
    float *y;               /* (batch, pixels, cout) */
    double *sums;           /* (gang, 4, cout): y, y*y, dz, dz*(y-mean), per member */
    int xpad, dypad;        /* which padded buffers of a member */
    struct norm_vectors *norm; /* (gang) */
};

enum { SUM_Y, SUM_YY, SUM_DZ, SUM_DZY, SUM_COUNT };
enum { MAX_PADS = 16 }; /* ResNet-18 has as many */

/* A zero-bordered image buffer; layers share it by shape, but never an input with a gradient. */
struct pad_shape {
    enum pad_role { PAD_INPUT, PAD_GRADIENT } role;
    int h, w, c, pad;
    size_t floats;
};

struct member_state {
    float *pads[MAX_PADS];
    float *dx;        /* gradient of one image, unpadded */
    float *side;      /* one image beside the main path: of the shortcut, of the max pooling */
    float *remade;    /* output of block remade_block for image remade_image, when it is not kept */
    int remade_block, remade_image;
    float *scratch;   /* of the convolutions */
    float *sums[2];   /* of the weights' gradient of the layer at hand, and of a projection beside
                       * it; zero between layers */
    float *gradient;  /* this member's share, trained_count floats */
    int sync_count;   /* barriers passed */
};

struct train {
    const struct resnet *net;
    struct gang *gang;
    const atomic_int *command;
    int gang_size, batch_max;
    struct arena arena;
    struct layer_state *layers;
    struct member_state *members;
    struct pad_shape pads[MAX_PADS];
    int pad_count;
    float *input;                    /* (batch, h, w, c) */
    float **blocks;                  /* (net->block_count) outputs a, (batch, pixels, channels) each;
                                      * NULL where they are made again instead of kept */
    uint8_t *winners;                /* of the stem's max pooling, or NULL */
    float *features[RESNET_MAX_HEADS], *dfeatures[RESNET_MAX_HEADS];
    float *logits[RESNET_MAX_HEADS], *dlogits[RESNET_MAX_HEADS];
    float *gradient;
    int latched[2];                  /* command as member 0 saw it before even and odd barriers */
};

static inline float *image_y(struct train *t, int layer, int i)
{
    return t->layers[layer].y + (size_t)i * resnet_layer_floats(&t->net->layers[layer]);
}

/* Output of block k (0 = stem) where it is kept; block_output gets it in any case. */
static inline float *image_block(struct train *t, int k, int i)
{
    return t->blocks[k] + (size_t)i * resnet_block_floats(&t->net->blocks[k]);
}

static inline uint8_t *image_winners(struct train *t, int i)
{
    return t->winners + (size_t)i * resnet_block_floats(&t->net->blocks[0]);
}

static inline double *member_sums(struct train *t, int layer, int member, int which)
{
    int c = t->net->layers[layer].conv.cout;
    return t->layers[layer].sums + ((size_t)member * SUM_COUNT + which) * c;
}

/*
 * Barrier that also tells all members the same about the command word: member 0 latches it before
 * the barrier into one of two slots in turn. A slot is written again only after the next barrier,
 * when everybody has read it. Returns 0 or ERR_CANCELLED.
 */
int train_sync(struct train *t, int member);

/* Adds the members' partial sums of one kind in member order. */
void total_sums(struct train *t, int layer, int which, double *total);

/* Packs this member's share of the layers for one pass. All share the memory: a barrier before, as others may still be
 * in another pass, and one after. */
void pack_weights(struct train *t, int member, enum conv_pass pass, const float *params);

/* Output of block k for image i, kept or made again from the y of its layers; borrowed until the member asks for another. */
const float *block_output(struct train *t, int member, int k, int i);

/* Fills and returns the padded input of `layer` for image i: the network's input, the output of the
 * block below, or what the batch norm and ReLU inside the block make of y. */
float *fill_xpad(struct train *t, int member, int layer, int i);

#endif
