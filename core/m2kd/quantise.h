/*
 * quantise.h - weights in few bits: each output channel has a scale, each weight is a whole number
 * (its code) of it. Pure functions.
 *
 * Codes are -q..q with q = 2^(bits-1) - 1; the scale is the channel's largest magnitude over q, as a
 * bfloat16, so that code * scale is exact in float and rounding what was rounded changes nothing.
 * A channel whose weights are all below 1e-30 in magnitude has scale 0 and becomes zero.
 */
#ifndef ACCRETED_CORE_M2KD_QUANTISE_H
#define ACCRETED_CORE_M2KD_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

enum { QUANTISE_MIN_BITS = 2, QUANTISE_MAX_BITS = 8 };

/* Scales (channels) of the weights (count / channels, channels) where mask is 1. */
void quantise_scales(int bits, size_t count, int channels, const float *weights,
                     const uint8_t *mask, float *scales);

/* The code of a finite weight, as a float. */
float quantise_code(int bits, float weight, float scale);

/* A scale as it is stored, the upper half of its float, and back. */
uint16_t quantise_pack_scale(float scale);
float quantise_unpack_scale(uint16_t stored);

#endif
