/*
 * conv.h - 2-D convolution of one image, forward and both gradients.
 *
 * Layout. Images are (H,W,C) floats, channels fastest. Inputs come with their border: `xpad`
 * is (H+2p, W+2p, C) with p = k/2 rows and columns of zeros around it; `dypad` likewise is
 * (OH+2p, OW+2p, Cout). conv_xpad_floats and conv_dypad_floats say how large they are, with
 * slack behind the image that kernels read; their owner zeroes the whole buffer once, after
 * which whoever fills them (norm.h's fused batch-norm passes) writes the interior alone. Working
 * on one padded image at a time keeps everything a kernel touches in the L2 cache and takes every
 * boundary test out of the inner loops. Weights are (K,K,Cin,Cout), output channel fastest.
 *
 * Algorithms, chosen for each pass at conv_init:
 * - direct: sums over windows in vectors of 16 (AVX-512), 8 (AVX2+FMA) or 4 floats; for passes
 *   whose output channels (Cout; Cin for the data gradient) are a multiple of the vector;
 * - bf16: the same over pairs of bfloat16 numbers with fp32 sums, where the CPU has AVX512_BF16
 *   and the precision CONV_BF16 allows it, for even channel counts. Callers see fp32 alone:
 *   operands are rounded (to nearest, even) on the way in, results never;
 * - Winograd F(4x4, 3x3) for stride 1 and channels that are multiples of the vector, where its 4
 *   times fewer multiplications pay; in fp32, or, with CONV_BF16, with the products of forward and
 *   data gradient over pairs of bf16 numbers: what is rounded there are transformed tiles and
 *   kernels, which costs about 1 % of the result's size (direct bf16: 0.2 %);
 * - im2col: a matrix product by CBLAS, for every other shape; the caller keeps CBLAS on one
 *   thread (openblas_set_num_threads).
 *
 * Functions are pure (no globals, no allocation), run on the calling thread, and the same
 * inputs give the same bits on the same instruction set and precision.
 */
#ifndef ACCRETED_CORE_NN_CONV_H
#define ACCRETED_CORE_NN_CONV_H

#include <stdbool.h>
#include <stddef.h>

enum conv_isa { CONV_ISA_BASELINE, CONV_ISA_AVX2, CONV_ISA_AVX512, CONV_ISA_COUNT };

enum conv_precision { CONV_FP32, CONV_BF16, CONV_PRECISION_COUNT };

enum conv_pass { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHTS, CONV_PASS_COUNT };

enum conv_algorithm { CONV_ALGORITHM_IM2COL, CONV_ALGORITHM_DIRECT, CONV_ALGORITHM_BF16,
                      CONV_ALGORITHM_WINOGRAD, CONV_ALGORITHM_WINOGRAD_BF16,
                      CONV_ALGORITHM_COUNT };

struct conv_kernels; /* tables of functions, private to conv*.c */
struct conv_transforms;

struct conv {
    int h, w, cin, cout, k, stride; /* input height and width; k odd; stride 1 or 2 */
    int oh, ow;                     /* output: ceil(h/stride), ceil(w/stride) */
    const struct conv_kernels *kernels;
    const struct conv_transforms *transforms;
    enum conv_algorithm algorithms[CONV_PASS_COUNT];
};

/* Best instruction set of this CPU, and its name ("avx512", "avx2", "baseline"). */
enum conv_isa conv_isa_best(void);
const char *conv_isa_name(enum conv_isa isa);

/* Whether this CPU has it; bf16 belongs to CONV_ISA_AVX512. */
bool conv_precision_available(enum conv_precision precision, enum conv_isa isa);
/* bf16 where this CPU has it, fp32 elsewhere. */
enum conv_precision conv_precision_fastest(void);

/* Fills *c. Errors: ERR_INVALID (sizes < 1, k even or > 7, stride not 1 or 2, isa or precision
 * not available on this CPU). */
int conv_init(struct conv *c, int h, int w, int cin, int cout, int k, int stride,
              enum conv_isa isa, enum conv_precision precision);

/* For tests and benchmarks: another algorithm than conv_init chose, before any of the functions
 * below is called. Errors: ERR_INVALID (not for this shape, pass or CPU). */
int conv_choose(struct conv *c, enum conv_pass pass, enum conv_algorithm algorithm);
const char *conv_algorithm_name(enum conv_algorithm algorithm);

size_t conv_weight_floats(const struct conv *c);  /* K*K*Cin*Cout */
size_t conv_xpad_floats(const struct conv *c);    /* (H+2p)(W+2p)Cin and slack */
size_t conv_dypad_floats(const struct conv *c);   /* (OH+2p)(OW+2p)Cout and slack */
size_t conv_sums_floats(const struct conv *c);    /* of conv_backward_weights */
size_t conv_scratch_floats(const struct conv *c); /* per thread, any pass; may be 0 */
/* Of conv_pack: for the forward pass, or for the data gradient. */
size_t conv_packed_floats(const struct conv *c, enum conv_pass pass);

/* Rearranges weights for the kernels of one pass, forward or the data gradient; once per step per
 * layer. The packed form belongs to this shape and the pass's algorithm. */
void conv_pack(const struct conv *c, enum conv_pass pass, const float *w, float *packed);

/* y (OH,OW,Cout) = x * w; overwritten; packed for CONV_FORWARD. All pointers 64-byte aligned, no
 * aliasing. */
void conv_forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                  float *scratch);
/* dx (H,W,Cin), unpadded, overwritten; packed for CONV_BACKWARD_DATA. */
void conv_backward_data(const struct conv *c, const float *dypad, const float *packed, float *dx,
                        float *scratch);

/* Adds one image's weight gradient to `sums`, conv_sums_floats that are zero at first. Their form
 * is the algorithm's own, so that the way out of it is paid once for many images. */
void conv_backward_weights(const struct conv *c, const float *xpad, const float *dypad,
                           float *sums, float *scratch);
/* dw (K,K,Cin,Cout) += the gradient in sums; they are zero again after. */
void conv_finish_weights(const struct conv *c, float *sums, float *dw);

#endif
