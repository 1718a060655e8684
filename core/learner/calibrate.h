/*
 * calibrate.h - the one number that turns scores into probabilities.
 */
#ifndef ACCRETED_CORE_LEARNER_CALIBRATE_H
#define ACCRETED_CORE_LEARNER_CALIBRATE_H

/* The scale s in [CALIBRATE_MIN, CALIBRATE_MAX] for which softmax(s * scores) gives the labels the highest likelihood
 * (temperature scaling, Guo et al. 2017, with s = 1/T). scores is (n, classes), n >= 1. Golden-section search over
 * log s, to one part in a thousand. */
#define CALIBRATE_MIN 0.05f
#define CALIBRATE_MAX 200.0f
float calibrate_scale(int n, int classes, const float *scores, const int *labels);

#endif
