/*
 * resnet.h - the networks: CIFAR ResNet-(6n+2) and ResNet-18, both with taps, as a description
 * and a parameter block.
 *
 * Both are a stem, then stages of basic blocks (two 3x3 convolutions with batch norm, and a
 * shortcut), each stage but the first halving the resolution and doubling the channels; global
 * average pooling gives feature_count features, and the main head is linear on them. Auxiliary
 * heads (taps) are linear on the global average pool of the ends of the stages before the last.
 *
 * RESNET_CIFAR  stem 3x3 with 16 channels; three stages of n blocks with 16, 32, 64 channels;
 *               where the shape changes the shortcut is subsampled and zero-padded in channels
 *               (He et al. 2016, option A). Heads: main, aux1, aux2.
 * RESNET_18     stem 7x7 of stride 2 with 64 channels, then max pooling 3x3 of stride 2; four
 *               stages of two blocks with 64, 128, 256, 512 channels; where the shape changes the
 *               shortcut is a 1x1 convolution of stride 2 with batch norm (option B), as
 *               torchvision builds it. Heads: main, aux1, aux2, aux3.
 *
 * The passes over a network (train*.c, frozen.c) know no architecture: they walk the block table.
 * struct resnet is immutable once made and may be shared between threads. Training lives in
 * train.h, serving and teaching in frozen.h.
 */
#ifndef ACCRETED_CORE_MODEL_RESNET_H
#define ACCRETED_CORE_MODEL_RESNET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/nn/conv.h"
#include "core/model/params.h"

enum {
    RESNET_MAX_HEADS = 4, /* main and three taps */
    RESNET_MAX_FEATURES = 512,
    RESNET_MAX_BLOCKS = 18,
    RESNET_MAX_CLASSES = 4096,
};

enum resnet_arch { RESNET_CIFAR, RESNET_18 };

/* What a network is made from; stored in every file that holds weights. */
struct resnet_spec {
    int32_t blocks;                    /* basic blocks a stage: n, 1..18; 2 for RESNET_18 */
    int32_t channels, height, width;   /* input; channels 1..4, sides up to 512, at least
                                        * resnet_min_side */
    int32_t classes;                   /* outputs of every head; 1..RESNET_MAX_CLASSES */
    enum resnet_arch arch;
};

enum resnet_role { LAYER_STEM, LAYER_CONV1, LAYER_CONV2, LAYER_PROJECTION };

struct resnet_layer { /* one convolution with its batch norm */
    struct conv conv;
    enum resnet_role role;
    int block;                          /* it belongs to: index into blocks, the stem is block 0 */
    int weight, gamma, beta, mean, var; /* indices into params.entries */
};

/* What a block adds to its second batch norm. */
enum resnet_shortcut {
    SHORTCUT_NONE,       /* nothing: the stem */
    SHORTCUT_IDENTITY,   /* its input */
    SHORTCUT_SUBSAMPLE,  /* its input, every second pixel, zero channels around (pool.h) */
    SHORTCUT_PROJECTION, /* a 1x1 convolution of its input, batch-normed, without ReLU */
};

struct resnet_block {
    int stage, place; /* 1-based stage, 0-based place in it; stage 0 is the stem */
    int first, last;  /* layers: its first and second convolution; the stem's one is both */
    int projection;   /* layer, or -1 */
    enum resnet_shortcut shortcut;
    bool max_pool;    /* its output goes through max pooling 3x3, stride 2 (pool.h) */
    int head;         /* that hangs on its output, or -1 */
    int height, width, channels; /* of its output, after pooling */
};

struct resnet {
    struct resnet_spec spec;
    enum conv_isa isa;
    struct param_table params;
    struct resnet_layer *layers; /* forward order: stem; conv1, conv2, projection of each block */
    struct resnet_block *blocks; /* forward order; [0] is the stem */
    int layer_count, block_count;
    int head_count;              /* 3 or 4: main, aux1, aux2 (, aux3) */
    int feature_count;           /* of the main head: head_features[0] */
    int head_weight[RESNET_MAX_HEADS], head_bias[RESNET_MAX_HEADS]; /* entry indices */
    int head_features[RESNET_MAX_HEADS];                            /* 64, 16, 32; 512, 64, ... */
};

/* Errors: ERR_INVALID (spec out of range, isa not available), ERR_NOMEM. */
int resnet_new(struct resnet **out, const struct resnet_spec *spec, enum conv_isa isa);
void resnet_free(struct resnet *net);

/* Has the convolutions computed in this precision; parameters stay fp32. Before anything is made of the network
 * (train.h, frozen.h). It begins in CONV_FP32. Errors: ERR_INVALID (not available on this CPU). */
int resnet_set_precision(struct resnet *net, enum conv_precision precision);

/* Whether there is such a network: `blocks` in the range of `arch`. */
bool resnet_exists(enum resnet_arch arch, int blocks);
/* Whether both are of one spec but for their classes: parameters are then alike but for the rows of the heads, and so is all
 * they compute on the way there. What is read from a file is asked this before it meets the network it is read for. */
bool resnet_same_network(const struct resnet *a, const struct resnet *b);
/* Layers as papers count them: 6n+2, or 18. The number says which architecture it is, as 18 is
 * not 6n+2. */
int resnet_depth(enum resnet_arch arch, int blocks);
/* The inverse; ERR_INVALID when there is no network of that depth. */
int resnet_from_depth(int depth, enum resnet_arch *arch, int *blocks);

/* The smallest height and width of an input: 8, or 32. */
int resnet_min_side(enum resnet_arch arch);

/* Fills a block of net->params.count floats: He-normal convolutions (fan-out), gamma 1, beta 0,
 * heads uniform in +-1/sqrt(features) with zero bias, running mean 0, variance 1. */
void resnet_initialise(const struct resnet *net, uint64_t seed, float *params);

/* Pixels of an image at the output of a layer's convolution, and floats. */
static inline int resnet_pixels(const struct resnet_layer *layer)
{
    return layer->conv.oh * layer->conv.ow;
}

static inline size_t resnet_layer_floats(const struct resnet_layer *layer)
{
    return (size_t)resnet_pixels(layer) * layer->conv.cout;
}

/* Floats of an image at the output of a block. */
static inline size_t resnet_block_floats(const struct resnet_block *block)
{
    return (size_t)block->height * block->width * block->channels;
}

/* Copies `old_params` of `old_net` (same spec but for fewer classes) into `params` of `net` and
 * initialises the rows of the new classes. */
void resnet_grow(const struct resnet *old_net, const float *old_params, const struct resnet *net,
                 uint64_t seed, float *params);

#endif
