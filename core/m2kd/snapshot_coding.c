/*
 * snapshot_coding.c - see snapshot_coding.h and SNAPSHOT_FORMAT.md.
 */
#include "core/m2kd/snapshot_coding.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/statistics.h"

/* Averages of magnitudes in sixteenths, in steps of a quarter, are the contexts of numbers. */
enum { CONTEXTS = 24, SIXTEENTHS = 16, FIRST_BOUND = 6 };

static int context_of(int average)
{
    int context = 0;
    for (int bound = FIRST_BOUND; context < CONTEXTS - 1 && average > bound; context++)
        bound += bound / 4;
    return context;
}

/* ---- mask ---- */

/* Log odds in eighths: round(8 ln(p / (1 - p))), p = (i + 1/2) / 64. */
static const int8_t log_odds[64] = {
    -39, -30, -26, -23, -21, -19, -17, -16, -15, -14, -13, -12, -11, -11, -10, -9,
    -8,  -8,  -7,  -7,  -6,  -5,  -5,  -4,  -4,  -3,  -3,  -2,  -2,  -1,  -1,  0,
    0,   1,   1,   2,   2,   3,   3,   4,   4,   5,   5,   6,   7,   7,   8,   8,
    9,   10,  11,  11,  12,  13,  14,  15,  16,  17,  19,  21,  23,  26,  30,  39};

enum {
    DENSITIES = 20, /* contexts, of half a unit of log odds each */
    PLACES = 12,    /* contexts: how full the kernel is so far, early and late in it */
    PRIOR_SEEN = 3  /* weights a channel is taken to have seen that are as dense as the layer */
};

/* How many weights were met, and kept of them. */
struct tally {
    int seen, kept;
};

static void count(struct tally *t, unsigned kept)
{
    t->seen++;
    t->kept += (int)kept;
}

/* What is known of one layer's mask so far. */
struct layer_tally {
    struct tally all, *out, *in; /* (channels out), (channels in) */
    uint8_t *kernels;            /* (in, out): kept of each kernel's weights */
};

static int layer_tally_init(struct layer_tally *l, size_t in, size_t out)
{
    *l = (struct layer_tally){.out = calloc(out, sizeof *l->out),
                              .in = calloc(in, sizeof *l->in),
                              .kernels = calloc(in * out, 1)};
    return l->out && l->in && l->kernels ? 0 : ERR_NOMEM;
}

static void layer_tally_release(struct layer_tally *l)
{
    free(l->out);
    free(l->in);
    free(l->kernels);
}

/* Sixty-fourths of a channel's weights. */
static int density(const struct tally *channel, int layer)
{
    return (64 * channel->kept + PRIOR_SEEN * layer) / (channel->seen + PRIOR_SEEN + 1);
}

static int density_context(const struct layer_tally *l, size_t in, size_t out)
{
    int layer = (64 * l->all.kept + 64) / (l->all.seen + 4); /* a quarter, before anything is known */
    int odds = log_odds[density(&l->out[out], layer)] + log_odds[density(&l->in[in], layer)] -
               log_odds[layer];
    int context = (odds + 2 * DENSITIES) / 4;
    return odds < -2 * DENSITIES ? 0 : context < DENSITIES ? context : DENSITIES - 1;
}

/* `place`: how many of the kernel's weights come before. */
static int place_context(size_t place, size_t kept)
{
    return place == 0 ? 0 : 2 * (1 + (int)(4 * kept / place)) + (place > 4);
}

static int code_layer(struct arithmetic *a, const struct param_entry *e, const uint8_t *mask,
                      struct bit_model models[DENSITIES][PLACES], uint8_t *bits, size_t *at)
{
    size_t in_count = (size_t)e->dims[2], out_count = (size_t)e->dims[3];
    struct layer_tally l;
    int err = layer_tally_init(&l, in_count, out_count);
    for (size_t i = 0; i < e->count && !err; i++) {
        if (mask[i] == MASK_OWNED)
            continue;
        size_t out = i % out_count, in = i / out_count % in_count, place = i / out_count / in_count;
        uint8_t *kernel = &l.kernels[in * out_count + out], *byte = &bits[*at / 8];
        struct bit_model *model =
            &models[density_context(&l, in, out)][place_context(place, *kernel)];
        unsigned bit = arithmetic_bit(a, model, *byte >> *at % 8 & 1);
        *byte |= (uint8_t)(bit << *at % 8);
        *kernel = (uint8_t)(*kernel + bit);
        count(&l.all, bit);
        count(&l.out[out], bit);
        count(&l.in[in], bit);
        ++*at;
    }
    layer_tally_release(&l);
    return err;
}

int coding_mask(struct arithmetic *a, const struct param_table *table, const uint8_t *mask,
                uint8_t *bits)
{
    struct bit_model models[DENSITIES][PLACES] = {0};
    size_t at = 0;
    int err = 0;
    for (int e = 0; e < table->entry_count && !err; e++)
        if (table->entries[e].kind == PARAM_CONV_WEIGHT)
            err = code_layer(a, &table->entries[e], mask + table->entries[e].offset, models, bits,
                             &at);
    return err;
}

/* ---- weights ---- */

/* Of an output channel: how many codes, and the sum of their magnitudes. */
struct channel {
    int count, sum;
};

/* The codes of one layer; *at: its first bit, and then the next layer's; *codes likewise. */
static int code_layer_weights(struct arithmetic *a, const struct param_entry *e,
                              const uint8_t *mask, const uint8_t *bits,
                              struct number_model *models, size_t *at, int8_t **codes)
{
    size_t channels = (size_t)e->dims[3];
    struct channel *channel = calloc(channels, sizeof *channel);
    int err = channel ? 0 : ERR_NOMEM;
    for (size_t i = 0; i < e->count && !err; i++) {
        if (mask[i] == MASK_OWNED)
            continue;
        bool kept = bits[*at / 8] >> *at % 8 & 1;
        ++*at;
        if (!kept)
            continue;
        struct channel *c = &channel[i % channels]; /* before anything is known, an average of 6 */
        int context = context_of(SIXTEENTHS * (c->sum + 18) / (c->count + 3));
        int code = arithmetic_number(a, &models[context], **codes);
        if (abs(code) > INT8_MAX)
            err = ERR_CORRUPT;
        *(*codes)++ = (int8_t)code;
        c->count++;
        c->sum += abs(code);
    }
    free(channel);
    return err;
}

int coding_weights(struct arithmetic *a, const struct param_table *table, const uint8_t *mask,
                   const uint8_t *bits, int8_t *codes)
{
    struct number_model models[CONTEXTS] = {0};
    size_t at = 0;
    int err = 0;
    for (int e = 0; e < table->entry_count && !err; e++)
        if (table->entries[e].kind == PARAM_CONV_WEIGHT)
            err = code_layer_weights(a, &table->entries[e], mask + table->entries[e].offset, bits,
                                     models, &at, &codes);
    return err;
}

/* ---- statistics ---- */

enum { AVERAGE_AT_FIRST = 4 * 256 };

/* A running average of magnitudes, in 256ths, takes in one more. */
static void average_in(int *average, int number)
{
    *average += (256 * abs(number) - *average) / 32;
}

/* A row's entries stand in contexts of the averages of the row and of each column so far. */
static void code_row(struct arithmetic *a, struct number_model *models, int i, int16_t *row,
                     int *columns)
{
    int average = AVERAGE_AT_FIRST;
    for (int j = 0; j < i; j++) {
        int context = context_of((average + columns[j]) / 2 / SIXTEENTHS);
        row[j] = (int16_t)arithmetic_number(a, &models[context], row[j]);
        average_in(&average, row[j]);
        average_in(&columns[j], row[j]);
    }
}

int coding_covariance(struct arithmetic *a, struct statistics_codes *s)
{
    struct number_model models[CONTEXTS] = {0}, exponents = {0}, pivots = {0};
    int *columns = malloc((size_t)s->width * sizeof *columns);
    if (!columns)
        return ERR_NOMEM;
    s->exponent = arithmetic_number(a, &exponents, s->exponent);
    int err = s->exponent < STATISTICS_EXPONENT_MIN || s->exponent > STATISTICS_EXPONENT_MAX
                  ? ERR_CORRUPT
                  : 0;
    for (int i = 0; i < s->width && !err; i++) {
        int pivot = arithmetic_number(a, &pivots, s->pivots[i]);
        if (pivot < 0 || pivot > UINT8_MAX)
            err = ERR_CORRUPT;
        s->pivots[i] = (uint8_t)pivot;
        columns[i] = AVERAGE_AT_FIRST;
    }
    for (int i = 1; i < s->width && !err; i++)
        code_row(a, models, i, s->factor + statistics_factor_count(i), columns);
    free(columns);
    return err;
}

/* What class c's code of feature i, of `width`, may be like: the average of up to MEANS_BEFORE classes before. *spread: the average distance of
 * the last SPREAD_BEFORE of them from it, in sixteenths. */
static int expected_mean(const int16_t *means, size_t width, int c, size_t i, int *spread)
{
    enum { MEANS_BEFORE = 20, SPREAD_BEFORE = 3 };
    int before = c < MEANS_BEFORE ? c : MEANS_BEFORE, near = c < SPREAD_BEFORE ? c : SPREAD_BEFORE;
    int sum = 0, distance = 8;
    for (int k = 1; k <= before; k++)
        sum += means[(size_t)(c - k) * width + i];
    int expected = before ? sum / before : 0;
    for (int k = 1; k <= near; k++)
        distance += abs(means[(size_t)(c - k) * width + i] - expected);
    *spread = SIXTEENTHS * distance / (near + 1);
    return expected;
}

int coding_means(struct arithmetic *a, struct statistics_codes *s)
{
    struct number_model models[CONTEXTS] = {0};
    size_t width = (size_t)s->width;
    int err = 0;
    for (int c = 0; c < s->classes && !err; c++)
        for (size_t i = 0; i < width && !err; i++) {
            int16_t *mean = &s->means[(size_t)c * width + i];
            int spread, expected = expected_mean(s->means, width, c, i, &spread);
            int number = expected +
                         arithmetic_number(a, &models[context_of(spread)], *mean - expected);
            if (abs(number) > STATISTICS_MEAN_MAX)
                err = ERR_CORRUPT;
            else
                *mean = (int16_t)number;
        }
    return err;
}
