/*
 * curve.h - a long curve as fewer points. Pure functions.
 */
#ifndef ACCRETED_SERVER_API_CURVE_H
#define ACCRETED_SERVER_API_CURVE_H

#include "core/learner/learner.h"

enum { CURVE_POINTS_MIN = 4, CURVE_POINTS_MAX = 10000 };

/* Thins `count` epochs out in place and returns how many are left, at most `points` (from
 * CURVE_POINTS_MIN on). Those left are real ones: the first, the last, and of each stretch between
 * them that with the lowest and that with the highest loss, so that no spike is smoothed away. */
int curve_thin(struct learner_epoch *epochs, int count, int points);

#endif
