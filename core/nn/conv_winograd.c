/*
 * conv_winograd.c - Winograd's algorithm F(4x4, 3x3) for 3x3 convolutions of stride 1, after Lavin and
 * Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016).
 *
 * The image of outputs is cut into tiles of 4x4; what goes into one is a tile of 6x6. In one
 * dimension, an output is a coefficient of a product of polynomials; the product is taken value by
 * value at six points (0, a, -a, b, -b and infinity), so that 6 multiplications stand for 12, and
 * 36 for 144 in two dimensions. At each of the 36 points what is left is a matrix product over the
 * channels, which conv_kernels does as a sum over windows of one run:
 *
 *   forward, data gradient   m (tile, out)  = v (tile, in) * u (in, out)
 *   weight gradient          m (in, out)   += v (tile, in)^T * g (tile, out)
 *
 * with v the tiles of x (or dy), u the kernels, g the tiles of dy, and y, dx or dw from m. The points
 * 2/3 and 3/2 keep the numbers on the way small: their product is 1, and the errors stay near those of
 * the direct sums. Where bf16 is allowed, v and u of forward and data gradient are rounded to it,
 * transforms and sums stay fp32. A chunk of tiles at a time goes all the way through, so that v and m stay
 * in the L2 cache.
 */
#include <string.h>

#include "core/nn/conv_kernels.h"

enum {
    POINTS = CONV_WINOGRAD_TILE * CONV_WINOGRAD_TILE,
    TAPS = 9,
    /* Between planes: no multiple of 4 KiB, or all points of a tile would fall on one set of L1. */
    PLANE_SLACK = 16,
    CHUNK_FLOATS = 80 * 1024, /* of v and m together */
    CACHED_FLOATS = 256 * 1024, /* of u that the L2 cache holds beside a chunk */
    MOST_FLOATS = 1024 * 1024,  /* of u that many tiles are worth reading for */
    MANY_TILES = 16,
};

static int tiles_along(int pixels)
{
    return (pixels + CONV_WINOGRAD_OUT - 1) / CONV_WINOGRAD_OUT;
}

static int tile_count(const struct conv *c)
{
    return tiles_along(c->h) * tiles_along(c->w);
}

static bool fits(const struct conv *c, enum conv_pass pass)
{
    (void)pass;
    return c->k == 3 && c->stride == 1 && c->cin % c->kernels->lanes == 0 &&
           c->cout % c->kernels->lanes == 0;
}

/* Not where tiles stick out too far, nor where u, four times as large as the weights, comes from
 * memory for too few of them: bench_conv shows both algorithms. */
bool conv_winograd_pays(const struct conv *c)
{
    int tile_pixels = tile_count(c) * CONV_WINOGRAD_OUT * CONV_WINOGRAD_OUT;
    int most_floats = tile_count(c) >= MANY_TILES ? MOST_FLOATS : CACHED_FLOATS;

    return 2 * tile_pixels <= 3 * c->h * c->w && POINTS * c->cin * c->cout <= most_floats;
}

size_t conv_winograd_image_floats(int height, int width, int channels)
{
    size_t rows = (size_t)tiles_along(height) * CONV_WINOGRAD_OUT + 1;
    size_t cols = (size_t)tiles_along(width) * CONV_WINOGRAD_OUT + 2;

    return (rows * (size_t)(width + 2) + cols) * (size_t)channels;
}

/* In what the matrix products are done. */
struct arithmetic {
    int channels_per_float; /* of v and u: 2 where a float is a word of two bf16 numbers */
    const struct conv_kernels *kernels;
    void (*input)(const struct conv_tiles *t, const float *x, float *v);
};

static struct arithmetic fp32_of(const struct conv *c)
{
    return (struct arithmetic){1, c->kernels, c->transforms->input};
}

static ptrdiff_t kernel_plane(const struct conv *c, int channels_per_float)
{
    return (ptrdiff_t)c->cin * c->cout / channels_per_float + PLANE_SLACK;
}

static size_t sums_floats(const struct conv *c)
{
    return POINTS * (size_t)kernel_plane(c, 1);
}

static size_t packed_floats(const struct conv *c, enum conv_pass pass)
{
    (void)pass;
    return sums_floats(c);
}

/* Tiles that go through together. */
static int chunk_tiles(const struct conv *c)
{
    int most = CHUNK_FLOATS / (POINTS * (c->cin + c->cout)), all = tile_count(c);

    most = most < 1 ? 1 : most;
    return most < all ? most : all;
}

static ptrdiff_t chunk_plane(const struct conv *c, int channels)
{
    return (ptrdiff_t)chunk_tiles(c) * channels + PLANE_SLACK;
}

static size_t scratch_floats(const struct conv *c, enum conv_pass pass)
{
    (void)pass;
    return POINTS * (size_t)(chunk_plane(c, c->cin) + chunk_plane(c, c->cout));
}

/* Where the weights of a pass begin, and how they lie; planes are plane_floats apart. */
static const float *taps_of(const struct conv *c, enum conv_pass pass, const float *w,
                            ptrdiff_t plane_floats, struct conv_taps *t)
{
    ptrdiff_t tap = (ptrdiff_t)c->cin * c->cout;

    if (pass == CONV_FORWARD) {
        *t = (struct conv_taps){.ins = c->cin, .outs = c->cout, .in_step = c->cout, .out_step = 1,
                                .tap_step = tap, .plane_floats = plane_floats};
        return w;
    }
    *t = (struct conv_taps){.ins = c->cout, .outs = c->cin, .in_step = 1, .out_step = c->cout,
                            .tap_step = -tap, .plane_floats = plane_floats};
    return w + (TAPS - 1) * tap;
}

static void pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed)
{
    struct conv_taps t;

    w = taps_of(c, pass, w, kernel_plane(c, 1), &t);
    c->transforms->kernels(&t, w, packed);
}

/* The tiles of an image with `channels`, rows of row_floats; a chunk starts at `first`. */
static struct conv_tiles tiles_of(const struct conv *c, int channels, int row_floats, int first)
{
    int left = tile_count(c) - first, most = chunk_tiles(c);

    return (struct conv_tiles){
        .height = c->h, .width = c->w, .channels = channels, .row_floats = row_floats,
        .per_row = tiles_along(c->w), .first = first, .count = left < most ? left : most,
        .plane_floats = chunk_plane(c, channels),
    };
}

/* One point's matrix product, over `tiles` tiles. */
static struct conv_windows product_of(int tiles, int ins, int outs)
{
    return (struct conv_windows){
        .rows = 1, .cols = tiles, .x_col_step = ins, .tap_rows = 1, .run_floats = ins,
        .outs = outs, .y_col_step = outs,
    };
}

/* y (h, w, outs) from the padded image x (h + 2, w + 2, ins). */
static void convolve(const struct conv *c, struct arithmetic a, int ins, int outs, const float *x,
                     const float *u, float *y, float *scratch)
{
    ptrdiff_t u_plane = kernel_plane(c, a.channels_per_float);
    float *v = scratch, *m = scratch + POINTS * chunk_plane(c, ins);

    for (int first = 0; first < tile_count(c); first += chunk_tiles(c)) {
        struct conv_tiles in = tiles_of(c, ins, (c->w + 2) * ins, first);
        struct conv_tiles out = tiles_of(c, outs, c->w * outs, first);
        struct conv_windows product = product_of(in.count, ins / a.channels_per_float, outs);
        a.input(&in, x, v);
        for (int p = 0; p < POINTS; p++)
            a.kernels->sum(&product, v + p * in.plane_floats, u + p * u_plane,
                           m + p * out.plane_floats);
        c->transforms->output(&out, m, y);
    }
}

static void forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                    float *scratch)
{
    convolve(c, fp32_of(c), c->cin, c->cout, xpad, packed, y, scratch);
}

static void backward_data(const struct conv *c, const float *dypad, const float *packed,
                          float *dx, float *scratch)
{
    convolve(c, fp32_of(c), c->cout, c->cin, dypad, packed, dx, scratch);
}

static void backward_weights(const struct conv *c, const float *xpad, const float *dypad,
                             float *sums, float *scratch)
{
    int row = (c->w + 2) * c->cout;
    float *v = scratch, *g = scratch + POINTS * chunk_plane(c, c->cin);

    for (int first = 0; first < tile_count(c); first += chunk_tiles(c)) {
        struct conv_tiles in = tiles_of(c, c->cin, (c->w + 2) * c->cin, first);
        struct conv_tiles out = tiles_of(c, c->cout, row, first);
        struct conv_windows product = product_of(in.count, c->cin, c->cout);
        c->transforms->input(&in, xpad, v);
        c->transforms->gradient(&out, dypad + row + c->cout, g);
        for (int p = 0; p < POINTS; p++)
            c->kernels->sum_weights(&product, v + p * in.plane_floats, g + p * out.plane_floats,
                                    sums + p * kernel_plane(c, 1));
    }
}

static void finish_weights(const struct conv *c, float *sums, float *dw)
{
    c->transforms->weights((ptrdiff_t)c->cin * c->cout, sums, kernel_plane(c, 1), dw);
    memset(sums, 0, sums_floats(c) * sizeof *sums);
}

const struct conv_method conv_winograd = {
    .fits = fits,
    .packed_floats = packed_floats,
    .scratch_floats = scratch_floats,
    .pack = pack,
    .forward = forward,
    .backward_data = backward_data,
    .sums_floats = sums_floats,
    .backward_weights = backward_weights,
    .finish_weights = finish_weights,
};

#if defined(__x86_64__)
/* ---- with the products in bf16: forward and data gradient ---- */

static const struct arithmetic bf16 = {2, &conv_kernels_bf16, conv_winograd_input_bf16};

static bool bf16_fits(const struct conv *c, enum conv_pass pass)
{
    return pass != CONV_BACKWARD_WEIGHTS && fits(c, pass) &&
           c->kernels == &conv_kernels_avx512 &&
           conv_precision_available(CONV_BF16, CONV_ISA_AVX512);
}

static size_t bf16_packed_floats(const struct conv *c, enum conv_pass pass)
{
    (void)pass;
    return POINTS * (size_t)kernel_plane(c, bf16.channels_per_float);
}

/* Two inputs of a block of outputs at a time: in fp32, then as words. */
static void bf16_pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed)
{
    enum { MOST_OUTS = 32, PAIR = 2 * MOST_OUTS };
    float pair[POINTS * PAIR] __attribute__((aligned(64)));
    ptrdiff_t u_plane = kernel_plane(c, bf16.channels_per_float);
    struct conv_taps all, part;

    w = taps_of(c, pass, w, PAIR, &all);
    part = all;
    part.ins = 2;
    part.outs = conv_block_outs(conv_kernels_bf16.lanes, all.outs);
    for (int o = 0; o < all.outs; o += part.outs)
        for (int i = 0; i < all.ins; i += 2, packed += part.outs) {
            c->transforms->kernels(&part, w + o * all.out_step + i * all.in_step, pair);
            for (int p = 0; p < POINTS; p++)
                conv_bf16_zip(pair + p * PAIR, 2, part.outs, 2, 1, packed + p * u_plane);
        }
}

static void bf16_forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                         float *scratch)
{
    convolve(c, bf16, c->cin, c->cout, xpad, packed, y, scratch);
}

static void bf16_backward_data(const struct conv *c, const float *dypad, const float *packed,
                               float *dx, float *scratch)
{
    convolve(c, bf16, c->cout, c->cin, dypad, packed, dx, scratch);
}

const struct conv_method conv_winograd_bf16 = {
    .fits = bf16_fits,
    .packed_floats = bf16_packed_floats,
    .scratch_floats = scratch_floats,
    .pack = bf16_pack,
    .forward = bf16_forward,
    .backward_data = bf16_backward_data,
};
#endif
