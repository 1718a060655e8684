/*
 * conv.c - see conv.h: sizes, the choice of an algorithm for each pass, and the way to it.
 */
#include "core/nn/conv.h"

#include <string.h>

#include "core/err.h"
#include "core/nn/conv_kernels.h"

static const char *const isa_names[CONV_ISA_COUNT] = {
    [CONV_ISA_BASELINE] = "baseline",
    [CONV_ISA_AVX2] = "avx2",
    [CONV_ISA_AVX512] = "avx512",
};

static const struct conv_kernels *const isa_kernels[CONV_ISA_COUNT] = {
    [CONV_ISA_BASELINE] = &conv_kernels_baseline,
#if defined(__x86_64__)
    [CONV_ISA_AVX2] = &conv_kernels_avx2,
    [CONV_ISA_AVX512] = &conv_kernels_avx512,
#endif
};

static const struct conv_transforms *const isa_transforms[CONV_ISA_COUNT] = {
    [CONV_ISA_BASELINE] = &conv_transforms_baseline,
#if defined(__x86_64__)
    [CONV_ISA_AVX2] = &conv_transforms_avx2,
    [CONV_ISA_AVX512] = &conv_transforms_avx512,
#endif
};

static const char *const algorithm_names[CONV_ALGORITHM_COUNT] = {
    [CONV_ALGORITHM_IM2COL] = "im2col",
    [CONV_ALGORITHM_DIRECT] = "direct",
    [CONV_ALGORITHM_BF16] = "bf16",
    [CONV_ALGORITHM_WINOGRAD] = "winograd",
    [CONV_ALGORITHM_WINOGRAD_BF16] = "winograd, bf16",
};

static const struct conv_method *const methods[CONV_ALGORITHM_COUNT] = {
    [CONV_ALGORITHM_IM2COL] = &conv_im2col,
    [CONV_ALGORITHM_DIRECT] = &conv_direct,
#if defined(__x86_64__)
    [CONV_ALGORITHM_BF16] = &conv_bf16,
#endif
    [CONV_ALGORITHM_WINOGRAD] = &conv_winograd,
#if defined(__x86_64__)
    [CONV_ALGORITHM_WINOGRAD_BF16] = &conv_winograd_bf16,
#endif
};

enum conv_isa conv_isa_best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return CONV_ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return CONV_ISA_AVX2;
#endif
    return CONV_ISA_BASELINE;
}

const char *conv_isa_name(enum conv_isa isa)
{
    return isa_names[isa];
}

const char *conv_algorithm_name(enum conv_algorithm algorithm)
{
    return algorithm_names[algorithm];
}

bool conv_precision_available(enum conv_precision precision, enum conv_isa isa)
{
    switch (precision) {
    case CONV_FP32:
        return isa <= conv_isa_best();
    case CONV_BF16:
#if defined(__x86_64__)
        return isa == CONV_ISA_AVX512 && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16");
#endif
    case CONV_PRECISION_COUNT:
        break;
    }
    return false;
}

enum conv_precision conv_precision_fastest(void)
{
    return conv_precision_available(CONV_BF16, conv_isa_best()) ? CONV_BF16 : CONV_FP32;
}

static const struct conv_method *method_of(const struct conv *c, enum conv_pass pass)
{
    return methods[c->algorithms[pass]];
}

int conv_choose(struct conv *c, enum conv_pass pass, enum conv_algorithm algorithm)
{
    if (algorithm >= CONV_ALGORITHM_COUNT || !methods[algorithm] ||
        !methods[algorithm]->fits(c, pass))
        return ERR_INVALID;
    c->algorithms[pass] = algorithm;
    return 0;
}

static void choose_fastest(struct conv *c, enum conv_pass pass, enum conv_precision precision)
{
    if (precision == CONV_BF16 && conv_winograd_pays(c) &&
        conv_choose(c, pass, CONV_ALGORITHM_WINOGRAD_BF16) == 0)
        return;
    if (conv_winograd_pays(c) && conv_choose(c, pass, CONV_ALGORITHM_WINOGRAD) == 0)
        return;
    if (precision == CONV_BF16 && conv_choose(c, pass, CONV_ALGORITHM_BF16) == 0)
        return;
    if (conv_choose(c, pass, CONV_ALGORITHM_DIRECT))
        c->algorithms[pass] = CONV_ALGORITHM_IM2COL;
}

int conv_init(struct conv *c, int h, int w, int cin, int cout, int k, int stride,
              enum conv_isa isa, enum conv_precision precision)
{
    if (h < 1 || w < 1 || cin < 1 || cout < 1 || k < 1 || k > 7 || k % 2 == 0 || stride < 1 ||
        stride > 2 || !conv_precision_available(precision, isa))
        return ERR_INVALID;
    *c = (struct conv){
        .h = h, .w = w, .cin = cin, .cout = cout, .k = k, .stride = stride,
        .oh = (h + stride - 1) / stride,
        .ow = (w + stride - 1) / stride,
        .kernels = isa_kernels[isa],
        .transforms = isa_transforms[isa],
    };
    for (enum conv_pass pass = 0; pass < CONV_PASS_COUNT; pass++)
        choose_fastest(c, pass, precision);
    return 0;
}

/* With the slack Winograd tiles reach into, whichever algorithm is chosen. */
static size_t padded_floats(const struct conv *c, int height, int width, int channels)
{
    size_t border = (size_t)(c->k / 2 * 2);
    size_t exact = ((size_t)height + border) * ((size_t)width + border) * (size_t)channels;
    size_t tiled = c->k == 3 ? conv_winograd_image_floats(height, width, channels) : 0;

    return tiled > exact ? tiled : exact;
}

size_t conv_weight_floats(const struct conv *c)
{
    return (size_t)(c->k * c->k) * (size_t)c->cin * (size_t)c->cout;
}

size_t conv_packed_floats(const struct conv *c, enum conv_pass pass)
{
    return method_of(c, pass)->packed_floats(c, pass);
}

size_t conv_xpad_floats(const struct conv *c)
{
    return padded_floats(c, c->h, c->w, c->cin);
}

size_t conv_dypad_floats(const struct conv *c)
{
    return padded_floats(c, c->oh, c->ow, c->cout);
}

size_t conv_sums_floats(const struct conv *c)
{
    return method_of(c, CONV_BACKWARD_WEIGHTS)->sums_floats(c);
}

size_t conv_scratch_floats(const struct conv *c)
{
    size_t most = 0;

    for (enum conv_pass pass = 0; pass < CONV_PASS_COUNT; pass++) {
        size_t floats = method_of(c, pass)->scratch_floats(c, pass);
        if (floats > most)
            most = floats;
    }
    return most;
}

void conv_pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed)
{
    method_of(c, pass)->pack(c, pass, w, packed);
}

void conv_forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                  float *scratch)
{
    method_of(c, CONV_FORWARD)->forward(c, xpad, packed, y, scratch);
}

void conv_backward_data(const struct conv *c, const float *dypad, const float *packed, float *dx,
                        float *scratch)
{
    method_of(c, CONV_BACKWARD_DATA)->backward_data(c, dypad, packed, dx, scratch);
}

void conv_backward_weights(const struct conv *c, const float *xpad, const float *dypad,
                           float *sums, float *scratch)
{
    method_of(c, CONV_BACKWARD_WEIGHTS)->backward_weights(c, xpad, dypad, sums, scratch);
}

void conv_finish_weights(const struct conv *c, float *sums, float *dw)
{
    method_of(c, CONV_BACKWARD_WEIGHTS)->finish_weights(c, sums, dw);
}

void conv_plain_finish_weights(const struct conv *c, float *sums, float *dw)
{
    size_t count = conv_weight_floats(c);

    for (size_t i = 0; i < count; i++)
        dw[i] += sums[i];
    memset(sums, 0, count * sizeof *sums);
}
