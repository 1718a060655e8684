/*
 * conv.h - 2-D convolution of one image, forward and both gradients.
 *
 * Layout. Images are (H,W,C) floats, channels fastest. Inputs come with their border: `xpad`
 * is (H+2p, W+2p, C) with p = k/2 rows and columns of zeros around it; `dypad` likewise is
 * (OH+2p, OW+2p, Cout). conv_xpad_floats and conv_dypad_floats say how large they are; their
 * owner zeroes the whole buffer once, after which whoever fills them (norm.h's fused batch-norm
 * passes) writes the interior alone. Working on one padded image at a time keeps everything a
 * kernel touches in the L2 cache and takes every boundary test out of the inner loops.
 * Weights are (K,K,Cin,Cout), output channel fastest.
 *
 * Kernels. Direct kernels, written with vector extensions, are compiled for AVX-512 (vectors of
 * 16 floats), AVX2+FMA (8) and baseline (4); the best the CPU has is chosen at conv_init (or
 * forced, for tests). They serve every pass whose output channels (Cout; Cin for the data
 * gradient) are a multiple of the vector; every other pass goes through im2col + CBLAS, which
 * the caller keeps on one thread (openblas_set_num_threads).
 *
 * Functions are pure (no globals, no allocation), run on the calling thread, and the same
 * inputs give the same bits on the same kernel.
 */
#ifndef ACCRETED_CORE_NN_CONV_H
#define ACCRETED_CORE_NN_CONV_H

#include <stddef.h>

enum conv_isa { CONV_ISA_BASELINE, CONV_ISA_AVX2, CONV_ISA_AVX512, CONV_ISA_COUNT };

struct conv_kernels; /* table of functions, private to conv*.c */

struct conv {
    int h, w, cin, cout, k, stride; /* input height and width; k odd; stride 1 or 2 */
    int oh, ow;                     /* output: ceil(h/stride), ceil(w/stride) */
    const struct conv_kernels *kernels;
};

/* Best instruction set of this CPU, and its name ("avx512", "avx2", "baseline"). */
enum conv_isa conv_isa_best(void);
const char *conv_isa_name(enum conv_isa isa);

/* Fills *c. Errors: ERR_INVALID (sizes < 1, k even or > 7, stride not 1 or 2, isa not available
 * on this CPU). */
int conv_init(struct conv *c, int h, int w, int cin, int cout, int k, int stride,
              enum conv_isa isa);

size_t conv_weight_floats(const struct conv *c);  /* K*K*Cin*Cout */
size_t conv_packed_floats(const struct conv *c);  /* both packed forms together */
size_t conv_xpad_floats(const struct conv *c);    /* (H+2p)(W+2p)Cin, plus any slack to overread */
size_t conv_dypad_floats(const struct conv *c);   /* (OH+2p)(OW+2p)Cout, likewise */
size_t conv_scratch_floats(const struct conv *c); /* per thread; may be 0 */

/* Rearranges weights for the forward and data-gradient kernels; once per step per layer. The
 * packed form belongs to this shape and instruction set. */
void conv_pack(const struct conv *c, const float *w, float *packed);

/* y (OH,OW,Cout) = x * w; overwritten. All pointers 64-byte aligned, no aliasing. */
void conv_forward(const struct conv *c, const float *xpad, const float *packed, float *y,
                  float *scratch);
/* dx (H,W,Cin), unpadded, overwritten. */
void conv_backward_data(const struct conv *c, const float *dypad, const float *packed, float *dx,
                        float *scratch);
/* dw (K,K,Cin,Cout) += . */
void conv_backward_weights(const struct conv *c, const float *xpad, const float *dypad, float *dw,
                           float *scratch);

#endif
