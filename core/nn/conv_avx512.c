/* conv_avx512.c - the direct convolution kernels for AVX-512: 32 registers of 16 floats. */
#include "core/nn/conv_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif

#define LANES 16
#define VEC_FMA(a, s, b) ((vec)_mm512_fmadd_ps((__m512)(a), _mm512_set1_ps(s), (__m512)(b)))
#define PIXELS_1 16
#define PIXELS_2 14
#define FLOATS_1 24
#define FLOATS_2 12
#define KERNELS conv_kernels_avx512
#include "core/nn/conv_direct.inc"

#define TRANSFORMS conv_transforms_avx512
#include "core/nn/conv_winograd.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
