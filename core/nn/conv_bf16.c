/*
 * conv_bf16.c - the bf16 algorithm: the direct one on words of two bf16 numbers.
 *
 * The instruction (vdpbf16ps) multiplies pairs and adds both products to an fp32 sum, so a word
 * must hold two terms of the same sum. Forward and data gradient sum over channels: a word is
 * two neighbouring channels, and the pass is the direct one with half as many. The weight
 * gradient sums over pixels: a word holds the same channel of two neighbouring pixels of dy. Its
 * x then needs the words (pixel, pixel + stride) for every even output column; with such a word
 * for every pixel the words of x lie exactly as its floats did, windows remain consecutive, and
 * the pass is the direct one over every second column.
 *
 * Rounding the operands costs one pass over the image, a few per cent of the sums. For the one
 * or three channels of a first layer that is more than the sums gain: odd counts stay fp32.
 */
#include "core/nn/conv_kernels.h"

#if defined(__x86_64__)

static size_t line_floats(size_t count)
{
    return (count + 15) / 16 * 16;
}

static size_t padded_pixels(const struct conv *c, int height, int width)
{
    int border = c->k / 2 * 2;

    return (size_t)(height + border) * (size_t)(width + border);
}

static bool fits(const struct conv *c, enum conv_pass pass)
{
    int outs = pass == CONV_BACKWARD_DATA ? c->cin : c->cout;
    int ins = pass == CONV_BACKWARD_DATA ? c->cout : c->cin;

    return conv_precision_available(CONV_BF16, CONV_ISA_AVX512) &&
           c->kernels == &conv_kernels_avx512 && outs % conv_kernels_bf16.lanes == 0 &&
           ins % 2 == 0;
}

static size_t packed_floats(const struct conv *c, enum conv_pass pass)
{
    (void)pass;
    return conv_weight_floats(c);
}

static size_t scratch_floats(const struct conv *c, enum conv_pass pass)
{
    switch (pass) {
    case CONV_FORWARD:
        return conv_xpad_floats(c) / 2;
    case CONV_BACKWARD_DATA:
        return conv_dypad_floats(c) / 2;
    case CONV_BACKWARD_WEIGHTS:
        return line_floats(conv_xpad_floats(c)) +
               (size_t)(c->oh * ((c->ow + 1) / 2)) * (size_t)c->cout;
    case CONV_PASS_COUNT:
        break;
    }
    return 0;
}

/* The direct form is rows of one block of outputs, a row for each float of a window: words pair
 * neighbouring rows. */
static void pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed)
{
    int outs = pass == CONV_BACKWARD_DATA ? c->cin : c->cout;
    int block = conv_block_outs(conv_kernels_bf16.lanes, outs);

    conv_direct_pack(c, pass, w, packed);
    conv_bf16_zip(packed, (int)(conv_weight_floats(c) / (size_t)block), block, 2, 1, packed);
}

static void forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                    float *scratch)
{
    struct conv words = *c;

    words.cin /= 2;
    conv_bf16_round(xpad, conv_xpad_floats(c), scratch);
    conv_direct_forward_on(&conv_kernels_bf16, &words, scratch, packed, y);
}

static void backward_data(const struct conv *c, const float *dypad, const float *packed,
                          float *dx, float *scratch)
{
    struct conv words = *c;

    words.cout /= 2;
    conv_bf16_round(dypad, conv_dypad_floats(c), scratch);
    conv_direct_backward_data_on(&conv_kernels_bf16, &words, scratch, packed, dx);
}

static void backward_weights(const struct conv *c, const float *xpad, const float *dypad,
                             float *sums, float *scratch)
{
    int p = c->k / 2, row = (c->ow + 2 * p) * c->cout, cols = (c->ow + 1) / 2;
    float *x = scratch, *dy = scratch + line_floats(conv_xpad_floats(c));
    struct conv_windows windows = conv_output_windows(c, cols * c->cout);

    conv_bf16_zip(xpad, (int)padded_pixels(c, c->h, c->w), c->cin, 1, c->stride, x);
    for (int i = 0; i < c->oh; i++)
        conv_bf16_zip(dypad + (ptrdiff_t)(i + p) * row + p * c->cout, c->ow, c->cout, 2, 1,
                      dy + (ptrdiff_t)i * windows.y_row_step);
    windows.cols = cols;
    windows.x_col_step *= 2;
    conv_kernels_bf16.sum_weights(&windows, x, dy, sums);
}

const struct conv_method conv_bf16 = {
    .fits = fits,
    .packed_floats = packed_floats,
    .scratch_floats = scratch_floats,
    .pack = pack,
    .forward = forward,
    .backward_data = backward_data,
    .sums_floats = conv_weight_floats,
    .backward_weights = backward_weights,
    .finish_weights = conv_plain_finish_weights,
};
#endif
