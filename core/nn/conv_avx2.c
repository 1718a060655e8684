/* conv_avx2.c - the direct convolution kernels for AVX2 with FMA: 16 registers of 8 floats. */
#include "core/nn/conv_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define LANES 8
#define VEC_FMA(a, s, b) ((vec)_mm256_fmadd_ps((__m256)(a), _mm256_set1_ps(s), (__m256)(b)))
#define PIXELS_1 12
#define PIXELS_2 6
#define FLOATS_1 12
#define FLOATS_2 6
#define KERNELS conv_kernels_avx2
#include "core/nn/conv_direct.inc"

#define TRANSFORMS conv_transforms_avx2
#include "core/nn/conv_winograd.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
