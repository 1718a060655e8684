/*
 * train.h - one training step of a network: forward, gradients of the logits given, backward.
 *
 * SPMD: every function with a `member` is called by all members of the gang at once, inside one
 * gang_run, in the same order; each works on its slice of the batch (train_slice) and they meet
 * at barriers where batch norm needs sums over the whole batch. Partial sums and
 * gradients are kept a member and added in member order, so the result depends on the gang's
 * size but never on timing.
 *
 * What is kept from forward to backward: of each convolution its output y, of some blocks their
 * output a. What lies between (batch norm and ReLU inside a block, the outputs of most blocks inside
 * a stage) is made again image by image while it is in the cache anyway: a multiply-add and an
 * addition a value, for about a quarter less memory.
 */
#ifndef ACCRETED_CORE_MODEL_TRAIN_H
#define ACCRETED_CORE_MODEL_TRAIN_H

#include <stdatomic.h>

#include "core/model/resnet.h"
#include "core/nn/gang.h"

struct train;

/* A workspace for batches of up to `batch_max` images. Borrows net and gang. `command` (may be
 * NULL) is polled at barriers: once it is not 0 the step is abandoned. Errors: ERR_NOMEM. */
int train_new(struct train **out, const struct resnet *net, struct gang *gang, int batch_max,
              const atomic_int *command);
void train_free(struct train *t);

/* The images [*lo, *hi) of a batch of n that `member` handles. */
void train_slice(const struct train *t, int n, int member, int *lo, int *hi);

/* Input of image i: (height, width, channels) floats, to be filled by the member whose slice has i. */
float *train_input(struct train *t, int i);
/* Logits of head `head` (classes floats a row) and their gradient, for image i. */
float *train_logits(struct train *t, int head, int i);
float *train_dlogits(struct train *t, int head, int i);
/* The features (feature_count floats a row) that the main head sees, and what their gradient has beside what comes from its logits,
 * for image i. */
const float *train_features(const struct train *t, int i);
float *train_dfeatures(struct train *t, int i);

/* Forward over n images with batch statistics; fills features and the logits of all heads, zeroes their gradients, and moves the running
 * statistics in `params` (by momentum 0.1). Returns 0, or ERR_CANCELLED for every member alike. */
int train_forward(struct train *t, int member, int n, float *params);

/* Backward from dlogits and dfeatures; adds up the gang's gradients into train_gradient. Returns as train_forward;
 * after it every member may read all of the gradient. */
int train_backward(struct train *t, int member, int n, const float *params);

/* net->params.trained_count floats. */
const float *train_gradient(const struct train *t);

#endif
