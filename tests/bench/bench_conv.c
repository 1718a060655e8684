/*
 * bench_conv - GFLOP/s of the convolutions on one core, a table: for each layer shape of the
 * networks a row for each algorithm, a column for each pass. A star marks what fp32 training
 * uses, a plus what bf16 training uses.
 *
 *   bench_conv [avx512|avx2|baseline]     default: the best this CPU has
 *
 * Each figure is the best of several runs over a few images that stay in cache, as they do in a
 * training step; the nominal operations (2 per multiplication of the plain loop) over the time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/nn/conv.h"

enum { RUNS = 9, IMAGES = 2 };
static const double RUN_FLOP = 1e9;

struct buffers {
    float *x[IMAGES], *dy[IMAGES], *w, *packed[2], *y, *dx, *sums, *scratch;
};

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *floats_new(size_t count)
{
    float *p = aligned_alloc(64, (count * sizeof(float) + 64) / 64 * 64);

    if (!p)
        abort();
    for (size_t i = 0; i < count; i++)
        p[i] = (float)(i % 17) / 17.0f - 0.5f;
    return p;
}

static void buffers_init(struct buffers *b, const struct conv *c)
{
    for (int i = 0; i < IMAGES; i++) {
        b->x[i] = floats_new(conv_xpad_floats(c));
        b->dy[i] = floats_new(conv_dypad_floats(c));
    }
    b->w = floats_new(conv_weight_floats(c));
    for (enum conv_pass pass = CONV_FORWARD; pass <= CONV_BACKWARD_DATA; pass++)
        b->packed[pass] = floats_new(conv_packed_floats(c, pass));
    b->y = floats_new((size_t)(c->oh * c->ow * c->cout));
    b->dx = floats_new((size_t)(c->h * c->w * c->cin));
    b->sums = floats_new(conv_sums_floats(c));
    b->scratch = floats_new(conv_scratch_floats(c));
    for (enum conv_pass pass = CONV_FORWARD; pass <= CONV_BACKWARD_DATA; pass++)
        conv_pack(c, pass, b->w, b->packed[pass]);
}

static void buffers_release(struct buffers *b)
{
    for (int i = 0; i < IMAGES; i++) {
        free(b->x[i]);
        free(b->dy[i]);
    }
    free(b->w);
    free(b->packed[CONV_FORWARD]);
    free(b->packed[CONV_BACKWARD_DATA]);
    free(b->y);
    free(b->dx);
    free(b->sums);
    free(b->scratch);
}

static void pass_run(const struct conv *c, struct buffers *b, enum conv_pass pass, int image)
{
    switch (pass) {
    case CONV_FORWARD:
        conv_forward(c, b->x[image], b->packed[pass], b->y, b->scratch);
        break;
    case CONV_BACKWARD_DATA:
        conv_backward_data(c, b->dy[image], b->packed[pass], b->dx, b->scratch);
        break;
    case CONV_BACKWARD_WEIGHTS:
        conv_backward_weights(c, b->x[image], b->dy[image], b->sums, b->scratch);
        break;
    case CONV_PASS_COUNT:
        break;
    }
}

static double pass_gflops(const struct conv *c, enum conv_pass pass)
{
    double flop = 2.0 * c->oh * c->ow * (double)conv_weight_floats(c), best_s = 1e9;
    int images = (int)(RUN_FLOP / flop) + 1;
    struct buffers b;

    buffers_init(&b, c);
    for (int run = 0; run < RUNS; run++) {
        double start_s = now_s();
        for (int i = 0; i < images; i++)
            pass_run(c, &b, pass, i % IMAGES);
        double took_s = now_s() - start_s;
        if (took_s < best_s)
            best_s = took_s;
    }
    buffers_release(&b);
    return flop * images / best_s * 1e-9;
}

static enum conv_isa isa_parse(const char *name)
{
    for (enum conv_isa isa = 0; isa < CONV_ISA_COUNT; isa++)
        if (strcmp(name, conv_isa_name(isa)) == 0)
            return isa;
    return CONV_ISA_COUNT;
}

/* One row of the table; `chosen` are the convolutions training uses, fp32 and bf16. */
static void row_print(const struct conv chosen[], int chosen_count, enum conv_algorithm algorithm)
{
    double gflops[CONV_PASS_COUNT] = {0};
    bool any = false;

    for (enum conv_pass pass = 0; pass < CONV_PASS_COUNT; pass++) {
        struct conv c = chosen[0];
        if (conv_choose(&c, pass, algorithm) == 0) {
            gflops[pass] = pass_gflops(&c, pass);
            any = true;
        }
    }
    if (!any)
        return;
    printf("%2d x %2d, %3d->%3d, %d, %d  %-9s", chosen->h, chosen->w, chosen->cin, chosen->cout,
           chosen->k, chosen->stride, conv_algorithm_name(algorithm));
    for (enum conv_pass pass = 0; pass < CONV_PASS_COUNT; pass++) {
        if (gflops[pass] > 0)
            printf(" %7.0f", gflops[pass]);
        else
            printf(" %7s", "-");
        for (int i = 0; i < 2; i++)
            putchar(i < chosen_count && chosen[i].algorithms[pass] == algorithm ? "*+"[i] : ' ');
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    static const int shapes[][6] = { /* h, w, cin, cout, k, stride */
        {32, 32, 3, 16, 3, 1},  {32, 32, 16, 16, 3, 1}, {32, 32, 16, 32, 3, 2},
        {16, 16, 32, 32, 3, 1}, {16, 16, 32, 64, 3, 2}, {8, 8, 64, 64, 3, 1},
        {28, 28, 1, 16, 3, 1},  {28, 28, 16, 16, 3, 1}, {28, 28, 16, 32, 3, 2},
        {14, 14, 32, 32, 3, 1}, {14, 14, 32, 64, 3, 2}, {7, 7, 64, 64, 3, 1},
        {64, 64, 64, 64, 3, 1}, {32, 32, 128, 128, 3, 1}, {16, 16, 128, 128, 3, 1},
        {16, 16, 256, 256, 3, 1}, {8, 8, 256, 256, 3, 1}, {8, 8, 512, 512, 3, 1},
        {16, 16, 128, 256, 3, 2}, {32, 32, 64, 128, 1, 2},
    };
    enum conv_isa isa = argc > 1 ? isa_parse(argv[1]) : conv_isa_best();

    printf("GFLOP/s on one core (operations of the plain loop)\n%-36s %7s   %7s   %7s\n",
           "h x w, cin->cout, k, stride", "forward", "data", "weights");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int *s = shapes[i];
        struct conv c[2];
        if (conv_init(&c[0], s[0], s[1], s[2], s[3], s[4], s[5], isa, CONV_FP32)) {
            fprintf(stderr, "bench_conv: this CPU has no such instruction set\n");
            return 1;
        }
        int count = conv_init(&c[1], s[0], s[1], s[2], s[3], s[4], s[5], isa, CONV_BF16) ? 1 : 2;
        for (enum conv_algorithm a = 0; a < CONV_ALGORITHM_COUNT; a++)
            row_print(c, count, a);
    }
    return 0;
}
