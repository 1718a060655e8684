/*
 * conv_avx512_bf16.c - the kernels on words of two bf16 numbers (vdpbf16ps), and the making of
 * such words. The instruction takes denormal numbers as zero.
 */
#include "core/nn/conv_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512bf16"))),              \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512bf16")
#endif

#define LANES 16
#define VEC_FMA(a, s, b)                                                                          \
    ((vec)_mm512_dpbf16_ps((__m512)(b), (__m512bh)(a), (__m512bh)_mm512_set1_ps(s)))
#define PIXELS_1 16
#define PIXELS_2 14
#define FLOATS_1 24
#define FLOATS_2 12
#define KERNELS conv_kernels_bf16
#include "core/nn/conv_direct.inc"

#undef VEC_FMA
#define VEC_FMA(a, s, b) ((vec)_mm512_fmadd_ps((__m512)(a), _mm512_set1_ps(s), (__m512)(b)))
#define VALUE_FLOATS (LANES / 2)
#define VALUE_STORE(to, value)                                                                    \
    _mm256_store_si256((__m256i *)(to), (__m256i)_mm512_cvtneps_pbh((__m512)(value)))
#include "core/nn/conv_winograd_input.inc"

void conv_winograd_input_bf16(const struct conv_tiles *t, const float *x, float *v)
{
    input(t, x, v);
}

/* The first n of 16 lanes. */
ALWAYS_INLINE __mmask16 first_lanes(size_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

void conv_bf16_round(const float *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i += 32) {
        size_t rest = count - i, second = rest > 16 ? rest - 16 : 0;
        __m512 low = _mm512_maskz_loadu_ps(first_lanes(rest), from + i);
        __m512 high = _mm512_maskz_loadu_ps(first_lanes(second), from + i + 16);
        _mm512_mask_storeu_epi32(to + i / 2, first_lanes(rest / 2),
                                 (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

/* Words of a and b, of which the first n lanes are used. */
ALWAYS_INLINE void zip_vector(const float *a, const float *b, __mmask16 lanes, __mmask16 lanes_b,
                       float *to)
{
    /* Lane n of the result is number n of a, then number n of b, from the 16 of a and 16 of b. */
    const __m512i order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0);
    __m512bh both = _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(lanes_b, b),
                                        _mm512_maskz_loadu_ps(lanes, a));

    _mm512_mask_storeu_epi32(to, lanes, _mm512_permutexvar_epi16(order, (__m512i)both));
}

void conv_bf16_zip(const float *from, int pixels, int channels, int step, int distance, float *to)
{
    for (int p = 0; p < pixels; p += step, to += channels) {
        const float *a = from + (ptrdiff_t)p * channels;
        const float *b = a + (p + distance < pixels ? (ptrdiff_t)distance * channels : 0);
        for (int c = 0; c < channels; c += 16) {
            __mmask16 lanes = first_lanes((size_t)(channels - c));
            zip_vector(a + c, b + c, lanes, p + distance < pixels ? lanes : 0, to + c);
        }
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
