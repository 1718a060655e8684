/*
 * calibrate.h - the one number that turns scores into probabilities.
 */
#ifndef ACCRETED_CORE_LEARNER_CALIBRATE_H
#define ACCRETED_CORE_LEARNER_CALIBRATE_H

#include <stdatomic.h>

/* *scale = the s in [CALIBRATE_MIN, CALIBRATE_MAX] for which softmax(s * scores) gives the labels the highest likelihood
 * (temperature scaling, Guo et al. 2017, with s = 1/T), each label taken for sure to but one in n + 2, which the other classes share, but
 * those retired (FROZEN_RETIRED_SCORE): n images that are all told apart do not prove that no image is ever in doubt (Platt 1999,
 * section 2.2). scores is (n, classes), n >= 1. Golden-section search over
 * log s, to one part in a thousand. On the calling thread. Errors: ERR_CANCELLED (`command`, which
 * may be NULL, is set: core/command.h; polled for each row). */
#define CALIBRATE_MIN 1e-4f
#define CALIBRATE_MAX 200.0f
int calibrate_scale(int n, int classes, const float *scores, const int *labels,
                    const atomic_int *command, float *scale);

#endif
