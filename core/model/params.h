/*
 * params.h - all parameters of a network in one block, with a table of offsets.
 *
 * The block is `trained_count` floats that the optimiser moves, then the batch-norm running
 * statistics; total `count`. Optimiser state, gradients (first trained_count floats), masks,
 * snapshots and checkpoints are loops over the same table.
 *
 * Table order is: for every convolution its weights (K,K,Cin,Cout), gamma, beta; then the
 * heads; then running mean and variance of every batch norm. A head is two entries: weights
 * (classes, features), one row a class, and biases (classes); so new classes append rows.
 */
#ifndef ACCRETED_CORE_MODEL_PARAMS_H
#define ACCRETED_CORE_MODEL_PARAMS_H

#include <stddef.h>
#include <stdint.h>

enum param_kind {
    PARAM_CONV_WEIGHT, /* dims K,K,Cin,Cout; the only kind that pruning touches */
    PARAM_BN_GAMMA,
    PARAM_BN_BETA,
    PARAM_HEAD_WEIGHT, /* dims classes, features */
    PARAM_HEAD_BIAS,   /* dims classes */
    PARAM_BN_MEAN,     /* running statistics: not trained */
    PARAM_BN_VAR,
};

struct param_entry {
    char name[32]; /* "stem.conv1.weight", "stage1.block0.bn2.gamma", "head.weight", "aux1.bias" */
    enum param_kind kind;
    int dims[4], ndims;
    size_t offset, count; /* in floats, into the block */
};

struct param_table {
    struct param_entry *entries; /* owned */
    int entry_count;
    size_t trained_count, count; /* floats */
};

#endif
