/*
 * resnet.h - the network: CIFAR ResNet-(6n+2) with taps, as a description and a parameter block.
 *
 * conv 3x3 + BN + ReLU, then three stages of n basic blocks with 16, 32, 64 channels, halving
 * the resolution at the start of stages 2 and 3; shortcuts are identities, subsampled and
 * zero-padded in channels where the shape changes (He et al. 2016, option A). Global average
 * pooling gives RESNET_FEATURES features; the main head is linear on them. Auxiliary heads
 * (taps) are linear on the global average pool of the ends of stages 1 and 2.
 *
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
    RESNET_HEADS = 3, /* main, aux1, aux2 */
    RESNET_STAGES = 3,
    RESNET_FEATURES = 64,
    RESNET_MAX_BLOCKS = 18,
    RESNET_MAX_CLASSES = 4096,
};

/* What a network is made from; stored in every file that holds weights. */
struct resnet_spec {
    int32_t blocks;                    /* n: basic blocks a stage; depth = 6n+2; 1..18 */
    int32_t channels, height, width;   /* input; channels 1..4, sides 8..512 */
    int32_t classes;                   /* outputs of every head; 1..RESNET_MAX_CLASSES */
};

struct resnet_layer { /* one convolution with its batch norm */
    struct conv conv;
    int weight, gamma, beta, mean, var; /* indices into params.entries */
};

struct resnet {
    struct resnet_spec spec;
    struct param_table params;
    struct resnet_layer *layers; /* 6n+1: stem, then conv1, conv2 of each block */
    int layer_count;
    int head_weight[RESNET_HEADS], head_bias[RESNET_HEADS]; /* entry indices */
    int head_features[RESNET_HEADS];                        /* 64, 16, 32 */
};

/* Errors: ERR_INVALID (spec out of range, isa not available), ERR_NOMEM. */
int resnet_new(struct resnet **out, const struct resnet_spec *spec, enum conv_isa isa);
void resnet_free(struct resnet *net);

/* Fills a block of net->params.count floats: He-normal convolutions (fan-out), gamma 1, beta 0,
 * heads uniform in +-1/sqrt(features) with zero bias, running mean 0, variance 1. */
void resnet_initialise(const struct resnet *net, uint64_t seed, float *params);

/* Image size (pixels) and channels at the output of `layer`. */
static inline int resnet_pixels(const struct resnet_layer *layer)
{
    return layer->conv.oh * layer->conv.ow;
}

/* Copies `old_params` of `old_net` (same spec but for fewer classes) into `params` of `net` and
 * initialises the rows of the new classes. */
void resnet_grow(const struct resnet *old_net, const float *old_params, const struct resnet *net,
                 uint64_t seed, float *params);

#endif
