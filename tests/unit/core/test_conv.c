/*
 * Convolution: every algorithm on every instruction set this CPU has, forward and both
 * gradients, against plain loops in double precision, on odd and even sizes, all kernel sizes
 * and strides; both gradients against finite differences of the forward pass; the same inputs
 * give the same bits; images add up in a weight gradient; what conv_init chooses.
 *
 * The direct bf16 algorithm is held to the same small error against plain loops over operands
 * rounded here, one by one: it must round exactly so, and must round nothing else. Winograd's
 * rounds values that the plain loops do not have: it is held to what these roundings add up to
 * (1.1 % in a model of it in double precision, a little more at edges).
 *
 * Buffers have exactly the documented sizes, so that the address sanitizer sees an overrun, and
 * start as NaN wherever the documentation promises nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/nn/conv.h"
#include "core/nn/rng.h"

struct shape {
    int h, w, cin, cout, k, stride;
};

/* x and dy are unpadded. */
struct operands {
    float *x, *dy, *w;
};

/* One convolution with random operands, padded copies of them and rounded ones. */
struct problem {
    struct conv c;
    struct operands exact, rounded;
    float *xpad, *dypad, *packed, *packed_data, *y, *dx, *sums, *dw, *scratch;
};

static float *floats_new(size_t count, float value)
{
    void *p = NULL;

    assert_int_equal(posix_memalign(&p, 64, count * sizeof(float) + !count), 0);
    for (size_t i = 0; i < count; i++)
        ((float *)p)[i] = value;
    return p;
}

/* Within -1 and 1, every fourth a multiple of 1/512: halfway between two bf16 numbers. */
static float *floats_random(size_t count, struct rng *r)
{
    float *p = floats_new(count, 0.0f);

    for (size_t i = 0; i < count; i++) {
        p[i] = 2.0f * rng_uniform(r) - 1.0f;
        if (i % 4 == 0)
            p[i] = rintf(512.0f * p[i]) / 512.0f;
    }
    return p;
}

/* To the nearest bf16 number, of two equally near ones to the even. */
static float bf16_round(float value)
{
    float lower, upper;
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    uint32_t low = bits & 0xffff0000u, high = low + 0x10000u;
    memcpy(&lower, &low, sizeof lower);
    memcpy(&upper, &high, sizeof upper);
    float below = fabsf(value - lower), above = fabsf(upper - value);
    if (below == above)
        return low >> 16 & 1 ? upper : lower;
    return below < above ? lower : upper;
}

static float *floats_rounded(const float *from, size_t count)
{
    float *to = floats_new(count, 0.0f);

    for (size_t i = 0; i < count; i++)
        to[i] = bf16_round(from[i]);
    return to;
}

/* A padded copy in `padded_floats` floats, zeros around and behind. */
static float *floats_padded(const float *from, int height, int width, int channels, int border,
                            size_t padded_floats)
{
    size_t row = (size_t)(width + 2 * border) * (size_t)channels;
    size_t run = (size_t)width * (size_t)channels;
    float *to = floats_new(padded_floats, 0.0f);

    memset(to, 0, row * (size_t)(height + 2 * border) * sizeof *to);
    for (int i = 0; i < height; i++)
        memcpy(to + (size_t)(i + border) * row + border * channels, from + (size_t)i * run,
               run * sizeof *to);
    return to;
}

static size_t x_floats(const struct conv *c)
{
    return (size_t)(c->h * c->w * c->cin);
}

static size_t y_floats(const struct conv *c)
{
    return (size_t)(c->oh * c->ow * c->cout);
}

/* The shape on an instruction set, and `algorithm` for each pass it can do; false for none. */
static bool conv_make(struct conv *c, const struct shape *s, enum conv_isa isa,
                      enum conv_algorithm algorithm)
{
    bool any = false;

    assert_int_equal(
        conv_init(c, s->h, s->w, s->cin, s->cout, s->k, s->stride, isa, CONV_FP32), 0);
    assert_int_equal(c->oh, (s->h + s->stride - 1) / s->stride);
    assert_int_equal(c->ow, (s->w + s->stride - 1) / s->stride);
    for (enum conv_pass pass = 0; pass < CONV_PASS_COUNT; pass++)
        if (conv_choose(c, pass, algorithm) == 0)
            any = true;
    return any;
}

static void problem_init(struct problem *p, const struct conv *conv)
{
    struct conv *c = &p->c;
    struct operands *e = &p->exact;
    struct rng r;

    *c = *conv;
    rng_init(&r, 42, (uint64_t)(c->h * 1000 + c->w));
    e->x = floats_random(x_floats(c), &r);
    e->dy = floats_random(y_floats(c), &r);
    e->w = floats_random(conv_weight_floats(c), &r);
    p->rounded.x = floats_rounded(e->x, x_floats(c));
    p->rounded.dy = floats_rounded(e->dy, y_floats(c));
    p->rounded.w = floats_rounded(e->w, conv_weight_floats(c));
    p->xpad = floats_padded(e->x, c->h, c->w, c->cin, c->k / 2, conv_xpad_floats(c));
    p->dypad = floats_padded(e->dy, c->oh, c->ow, c->cout, c->k / 2, conv_dypad_floats(c));
    p->packed = floats_new(conv_packed_floats(c, CONV_FORWARD), NAN);
    p->packed_data = floats_new(conv_packed_floats(c, CONV_BACKWARD_DATA), NAN);
    p->scratch = floats_new(conv_scratch_floats(c), NAN);
    p->y = floats_new(y_floats(c), NAN);
    p->dx = floats_new(x_floats(c), NAN);
    p->sums = floats_new(conv_sums_floats(c), 0.0f);
    p->dw = floats_new(conv_weight_floats(c), 0.5f); /* gradients are added to what is there */
}

static void problem_release(struct problem *p)
{
    float *all[] = {p->exact.x, p->exact.dy, p->exact.w, p->rounded.x, p->rounded.dy,
                    p->rounded.w, p->xpad, p->dypad, p->packed, p->packed_data, p->y, p->dx,
                    p->sums, p->dw, p->scratch};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void problem_run(struct problem *p)
{
    conv_pack(&p->c, CONV_FORWARD, p->exact.w, p->packed);
    conv_pack(&p->c, CONV_BACKWARD_DATA, p->exact.w, p->packed_data);
    conv_forward(&p->c, p->xpad, p->packed, p->y, p->scratch);
    conv_backward_data(&p->c, p->dypad, p->packed_data, p->dx, p->scratch);
    conv_backward_weights(&p->c, p->xpad, p->dypad, p->sums, p->scratch);
    conv_finish_weights(&p->c, p->sums, p->dw);
}

/* Sums in double, each with the sum of the magnitudes that went into it: rounding errors of any
 * order of summation are in proportion to the latter. Winograd's are larger, as larger numbers
 * cancel on the way, but not by much: also in the mean. */
struct sums {
    double *value, *magnitude;
};

static struct sums sums_new(size_t count)
{
    struct sums s = {calloc(count, sizeof(double)), calloc(count, sizeof(double))};

    assert_non_null(s.value);
    assert_non_null(s.magnitude);
    return s;
}

static void sums_add(struct sums *s, size_t i, double a, double b)
{
    s->value[i] += a * b;
    s->magnitude[i] += fabs(a * b);
}

/* Of one value, in units of its sum of magnitudes; of all together, in units of their size. */
struct tolerance {
    double one, all;
};

static struct tolerance tolerance_of(enum conv_algorithm algorithm)
{
    switch (algorithm) {
    case CONV_ALGORITHM_WINOGRAD:
        return (struct tolerance){1e-5, 2e-6};
    case CONV_ALGORITHM_WINOGRAD_BF16:
        return (struct tolerance){3e-2, 1.6e-2};
    default:
        return (struct tolerance){4e-6, 2e-6};
    }
}

static void sums_check_and_free(struct sums *s, const float *got, size_t count, double start,
                                enum conv_pass pass, const struct problem *p)
{
    const struct conv *c = &p->c;
    const char *algorithm = conv_algorithm_name(c->algorithms[pass]);
    struct tolerance t = tolerance_of(c->algorithms[pass]);
    double errors = 0.0, values = 0.0;

    for (size_t i = 0; i < count; i++) {
        double want = s->value[i] + start;
        double error = fabs((double)got[i] - want);
        if (!(error <= t.one * (s->magnitude[i] + fabs(start))))
            fail_msg("pass %d [%zu] is %g, not %g: %dx%d, %d to %d channels, k %d, stride %d, %s",
                     (int)pass, i, (double)got[i], want, c->h, c->w, c->cin, c->cout, c->k,
                     c->stride, algorithm);
        errors += error * error;
        values += want * want;
    }
    if (!(sqrt(errors) <= t.all * sqrt(values)))
        fail_msg("pass %d has errors of %g: %dx%d, %d to %d channels, %s", (int)pass,
                 sqrt(errors / values), c->h, c->w, c->cin, c->cout, algorithm);
    free(s->value);
    free(s->magnitude);
}

/* What the algorithm of this pass should see. */
static const struct operands *pass_operands(const struct problem *p, enum conv_pass pass)
{
    return p->c.algorithms[pass] == CONV_ALGORITHM_BF16 ? &p->rounded : &p->exact;
}

/* Adds the products of one output pixel and one tap to all three results. */
static void tap_add(const struct problem *p, size_t out, size_t in, size_t tap, struct sums *y,
                    struct sums *dx, struct sums *dw)
{
    const struct operands *forward = pass_operands(p, CONV_FORWARD);
    const struct operands *data = pass_operands(p, CONV_BACKWARD_DATA);
    const struct operands *weights = pass_operands(p, CONV_BACKWARD_WEIGHTS);
    int cin = p->c.cin, cout = p->c.cout;

    for (int i = 0; i < cin; i++)
        for (int o = 0; o < cout; o++) {
            size_t xi = in * (size_t)cin + (size_t)i, yi = out * (size_t)cout + (size_t)o;
            size_t wi = (tap * (size_t)cin + (size_t)i) * (size_t)cout + (size_t)o;
            sums_add(y, yi, forward->x[xi], forward->w[wi]);
            sums_add(dx, xi, data->dy[yi], data->w[wi]);
            sums_add(dw, wi, weights->x[xi], weights->dy[yi]);
        }
}

static void problem_check(const struct problem *p)
{
    const struct conv *c = &p->c;
    struct sums y = sums_new(y_floats(c)), dx = sums_new(x_floats(c));
    struct sums dw = sums_new(conv_weight_floats(c));

    for (int out = 0; out < c->oh * c->ow; out++)
        for (int tap = 0; tap < c->k * c->k; tap++) {
            int row = out / c->ow * c->stride + tap / c->k - c->k / 2;
            int col = out % c->ow * c->stride + tap % c->k - c->k / 2;
            if (row >= 0 && row < c->h && col >= 0 && col < c->w)
                tap_add(p, (size_t)out, (size_t)(row * c->w + col), (size_t)tap, &y, &dx, &dw);
        }
    sums_check_and_free(&y, p->y, y_floats(c), 0.0, CONV_FORWARD, p);
    sums_check_and_free(&dx, p->dx, x_floats(c), 0.0, CONV_BACKWARD_DATA, p);
    sums_check_and_free(&dw, p->dw, conv_weight_floats(c), 0.5, CONV_BACKWARD_WEIGHTS, p);
}

/* On every algorithm. */
static void shape_check(const struct shape *s, enum conv_isa isa)
{
    for (enum conv_algorithm a = 0; a < CONV_ALGORITHM_COUNT; a++) {
        struct problem p;
        struct conv c;
        if (!conv_make(&c, s, isa, a))
            continue;
        problem_init(&p, &c);
        problem_run(&p);
        problem_check(&p);
        problem_release(&p);
    }
}

/* Channel counts on both sides of every vector width, and the first layer's 1 and 3. */
static void all_small_shapes(void **state)
{
    static const int sizes[][2] = {{1, 1}, {2, 3}, {5, 7}, {8, 14}, {3, 33}};
    static const int channels[][2] = {{1, 16}, {3, 16}, {3, 5}, {16, 16}, {16, 32}, {32, 16},
                                      {8, 8}, {4, 12}, {17, 24}, {48, 80}};
    (void)state;

    for (enum conv_isa isa = 0; isa <= conv_isa_best(); isa++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (size_t j = 0; j < sizeof channels / sizeof channels[0]; j++)
                for (int k = 1; k <= 7; k += 2)
                    for (int stride = 1; stride <= 2; stride++) {
                        if (k > 3 && channels[j][0] > 8 && channels[j][1] > 16)
                            continue; /* the general path: seen already, and slow to check */
                        struct shape s = {sizes[i][0], sizes[i][1], channels[j][0],
                                          channels[j][1], k, stride};
                        shape_check(&s, isa);
                    }
}

/* The networks' own layers, and every width: each tail of a row has its own kernel. */
static void all_layers_of_the_networks(void **state)
{
    static const struct shape shapes[] = {
        {32, 32, 3, 16, 3, 1},  {32, 32, 16, 16, 3, 1}, {32, 32, 16, 32, 3, 2},
        {16, 16, 32, 32, 3, 1}, {16, 16, 32, 64, 3, 2}, {8, 8, 64, 64, 3, 1},
        {28, 28, 1, 16, 3, 1},  {28, 28, 16, 16, 3, 1}, {14, 14, 32, 32, 3, 1},
        {14, 14, 32, 64, 3, 2}, {7, 7, 64, 64, 3, 1},   {4, 4, 256, 256, 3, 1},
        {4, 4, 256, 512, 3, 2}, {32, 32, 16, 32, 1, 2},
    };
    (void)state;

    for (enum conv_isa isa = 0; isa <= conv_isa_best(); isa++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            shape_check(&shapes[i], isa);
        for (int width = 1; width <= 40; width++)
            for (int stride = 1; stride <= 2; stride++) {
                struct shape s = {3, width, 16, width % 3 ? 16 : 32, 3, stride};
                shape_check(&s, isa);
            }
    }
}

/* sum(y * dy), the loss whose gradients problem_run computes. */
static double problem_loss(struct problem *p)
{
    double loss = 0.0;

    conv_pack(&p->c, CONV_FORWARD, p->exact.w, p->packed);
    conv_forward(&p->c, p->xpad, p->packed, p->y, p->scratch);
    for (size_t i = 0; i < y_floats(&p->c); i++)
        loss += (double)p->y[i] * (double)p->exact.dy[i];
    return loss;
}

/* The loss is linear in `*at`, so that a step as long as 1 has no truncation error. */
static void slope_check(struct problem *p, float *at, float gradient)
{
    float before = *at;

    *at = before + 0.5f;
    double above = problem_loss(p);
    *at = before - 0.5f;
    double below = problem_loss(p);
    *at = before;
    if (!(fabs(above - below - (double)gradient) < 1e-4 * (10.0 + fabs(above))))
        fail_msg("the slope is %g, the gradient %g", above - below, (double)gradient);
}

static void problem_slopes_check(struct problem *p)
{
    int pad = p->c.k / 2, row = p->c.w + 2 * pad, run = p->c.w * p->c.cin;

    for (size_t n = 0; n < x_floats(&p->c); n += 5) {
        int y = (int)n / run + pad, rest = (int)n % run + pad * p->c.cin;
        slope_check(p, p->xpad + y * row * p->c.cin + rest, p->dx[n]);
    }
    for (size_t n = 0; n < conv_weight_floats(&p->c); n += 7)
        slope_check(p, p->exact.w + n, p->dw[n] - 0.5f);
}

/* Not for bf16: steps and slopes would be rounded. */
static void gradients_are_finite_differences(void **state)
{
    static const struct shape shapes[] = {
        {7, 9, 16, 32, 3, 1}, {7, 9, 16, 32, 3, 2}, {6, 8, 3, 16, 3, 1},
        {6, 5, 4, 6, 5, 2},   {5, 6, 7, 3, 1, 2},
    };
    (void)state;

    for (enum conv_isa isa = 0; isa <= conv_isa_best(); isa++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            for (enum conv_algorithm a = 0; a < CONV_ALGORITHM_COUNT; a++) {
                struct problem p;
                struct conv c;
                if (a == CONV_ALGORITHM_BF16 || a == CONV_ALGORITHM_WINOGRAD_BF16 ||
                    !conv_make(&c, &shapes[i], isa, a))
                    continue;
                problem_init(&p, &c);
                problem_run(&p);
                problem_slopes_check(&p);
                problem_release(&p);
            }
}

static void bits_check(const struct conv *c)
{
    struct problem a, b;

    problem_init(&a, c);
    problem_init(&b, c);
    problem_run(&a);
    problem_run(&b);
    assert_memory_equal(a.y, b.y, y_floats(c) * sizeof(float));
    assert_memory_equal(a.dx, b.dx, x_floats(c) * sizeof(float));
    assert_memory_equal(a.dw, b.dw, conv_weight_floats(c) * sizeof(float));
    problem_release(&a);
    problem_release(&b);
}

static void the_same_inputs_give_the_same_bits(void **state)
{
    static const struct shape shapes[] = {
        {15, 13, 16, 32, 3, 1}, {15, 13, 32, 16, 3, 2}, {9, 9, 5, 7, 3, 1}};
    (void)state;

    for (enum conv_isa isa = 0; isa <= conv_isa_best(); isa++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            for (enum conv_algorithm a = 0; a < CONV_ALGORITHM_COUNT; a++) {
                struct conv c;
                if (conv_make(&c, &shapes[i], isa, a))
                    bits_check(&c);
            }
}

static void weight_gradients_of_images_add_up(void **state)
{
    static const struct shape shapes[] = {{10, 7, 16, 32, 3, 1}, {9, 9, 5, 7, 3, 2}};
    (void)state;

    for (enum conv_isa isa = 0; isa <= conv_isa_best(); isa++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            for (enum conv_algorithm a = 0; a < CONV_ALGORITHM_COUNT; a++) {
                struct problem p;
                struct conv c;
                if (!conv_make(&c, &shapes[i], isa, a))
                    continue;
                problem_init(&p, &c);
                problem_run(&p); /* 0.5 and once; then twice */
                for (int image = 0; image < 2; image++)
                    conv_backward_weights(&c, p.xpad, p.dypad, p.sums, p.scratch);
                float *two = floats_new(conv_weight_floats(&c), 0.0f);
                conv_finish_weights(&c, p.sums, two);
                for (size_t n = 0; n < conv_weight_floats(&c); n++)
                    assert_true(fabsf(two[n] - 2.0f * (p.dw[n] - 0.5f)) <= 1e-4f);
                for (size_t n = 0; n < conv_sums_floats(&c); n++)
                    assert_true(p.sums[n] == 0.0f);
                free(two);
                problem_release(&p);
            }
}

static void algorithms_check(const struct shape *s, enum conv_precision precision,
                             const enum conv_algorithm want[CONV_PASS_COUNT])
{
    struct conv c;

    assert_int_equal(conv_init(&c, s->h, s->w, s->cin, s->cout, s->k, s->stride, conv_isa_best(),
                               precision),
                     0);
    for (enum conv_pass pass = 0; pass < CONV_PASS_COUNT; pass++)
        assert_string_equal(conv_algorithm_name(c.algorithms[pass]),
                            conv_algorithm_name(want[pass]));
}

static void shape_and_precision_choose_the_algorithms(void **state)
{
    static const struct shape stem = {8, 8, 3, 16, 3, 1}, halving = {8, 8, 16, 32, 3, 2};
    static const struct shape small = {5, 5, 16, 16, 3, 1}, wide = {8, 8, 512, 512, 3, 1},
                              wider = {16, 16, 256, 256, 3, 1}, many = {16, 16, 128, 128, 3, 1};
    static const struct shape inner[] = {{32, 32, 16, 16, 3, 1}, {8, 8, 64, 64, 3, 1},
                                         {14, 14, 32, 32, 3, 1}, {7, 7, 64, 64, 3, 1}};
    static const enum conv_algorithm winograd[] = {
        CONV_ALGORITHM_WINOGRAD, CONV_ALGORITHM_WINOGRAD, CONV_ALGORITHM_WINOGRAD};
    static const enum conv_algorithm first[] = {CONV_ALGORITHM_DIRECT, CONV_ALGORITHM_IM2COL,
                                                CONV_ALGORITHM_DIRECT};
    static const enum conv_algorithm direct[] = {CONV_ALGORITHM_DIRECT, CONV_ALGORITHM_DIRECT,
                                                 CONV_ALGORITHM_DIRECT};
    static const enum conv_algorithm bf16[] = {CONV_ALGORITHM_BF16, CONV_ALGORITHM_BF16,
                                               CONV_ALGORITHM_BF16};
    static const enum conv_algorithm winograd_bf16[] = {
        CONV_ALGORITHM_WINOGRAD_BF16, CONV_ALGORITHM_WINOGRAD_BF16, CONV_ALGORITHM_WINOGRAD};
    struct conv c;
    (void)state;

    algorithms_check(&stem, CONV_FP32, first);
    algorithms_check(&halving, CONV_FP32, direct);
    algorithms_check(&small, CONV_FP32, direct);
    algorithms_check(&wide, CONV_FP32, direct);
    algorithms_check(&wider, CONV_FP32, direct);
    algorithms_check(&many, CONV_FP32, winograd);
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++)
        algorithms_check(&inner[i], CONV_FP32, winograd);
    for (enum conv_isa isa = 0; isa <= conv_isa_best(); isa++) {
        bool available = conv_precision_available(CONV_BF16, isa);
        assert_int_equal(conv_init(&c, 8, 8, 16, 16, 3, 1, isa, CONV_BF16),
                         available ? 0 : ERR_INVALID);
    }
    assert_false(conv_precision_available(CONV_BF16, CONV_ISA_BASELINE));
    if (!conv_precision_available(CONV_BF16, conv_isa_best()))
        return;
    algorithms_check(&stem, CONV_BF16, first);
    algorithms_check(&halving, CONV_BF16, bf16);
    algorithms_check(&small, CONV_BF16, bf16);
    algorithms_check(&inner[0], CONV_BF16, winograd_bf16);
    algorithms_check(&many, CONV_BF16, winograd_bf16);
}

static void misuse_is_refused(void **state)
{
    static const struct shape wrong[] = {
        {0, 8, 3, 16, 3, 1}, {8, 0, 3, 16, 3, 1}, {8, 8, 0, 16, 3, 1}, {8, 8, 3, 0, 3, 1},
        {8, 8, 3, 16, 2, 1}, {8, 8, 3, 16, 9, 1}, {8, 8, 3, 16, 3, 3}, {8, 8, 3, 16, 3, 0},
        {8, 8, 3, 16, -1, 1},
    };
    struct conv c;
    (void)state;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(conv_init(&c, wrong[i].h, wrong[i].w, wrong[i].cin, wrong[i].cout,
                                   wrong[i].k, wrong[i].stride, CONV_ISA_BASELINE,
                                   CONV_FP32),
                         ERR_INVALID);
    assert_int_equal(conv_init(&c, 8, 8, 3, 16, 3, 1, CONV_ISA_COUNT, CONV_FP32), ERR_INVALID);
    assert_int_equal(conv_init(&c, 8, 8, 3, 16, 3, 1, CONV_ISA_BASELINE, CONV_PRECISION_COUNT),
                     ERR_INVALID);
    assert_int_equal(conv_init(&c, 8, 8, 3, 5, 3, 1, CONV_ISA_BASELINE, CONV_FP32), 0);
    assert_int_equal(conv_choose(&c, CONV_FORWARD, CONV_ALGORITHM_DIRECT), ERR_INVALID);
    assert_int_equal(conv_choose(&c, CONV_FORWARD, CONV_ALGORITHM_COUNT), ERR_INVALID);
    assert_string_equal(conv_isa_name(CONV_ISA_AVX2), "avx2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_small_shapes),
        cmocka_unit_test(all_layers_of_the_networks),
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(the_same_inputs_give_the_same_bits),
        cmocka_unit_test(weight_gradients_of_images_add_up),
        cmocka_unit_test(shape_and_precision_choose_the_algorithms),
        cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
