/*
 * conv_baseline.c - the direct convolution kernels for any machine: vectors of 4 floats, which
 * are SSE2 on x86-64 and NEON (with its fused multiply-add) on arm64.
 */
#if defined(__aarch64__)
#include <arm_neon.h>
#define VEC_FMA(a, s, b) ((vec)vfmaq_n_f32((float32x4_t)(b), (float32x4_t)(a), s))
#else
#define VEC_FMA(a, s, b) ((a) * (s) + (b))
#endif

#define LANES 4
#define PIXELS_1 8
#define PIXELS_2 6
#define FLOATS_1 12
#define FLOATS_2 6
#define KERNELS conv_kernels_baseline
#include "core/nn/conv_direct.inc"

#define TRANSFORMS conv_transforms_baseline
#include "core/nn/conv_winograd.inc"
