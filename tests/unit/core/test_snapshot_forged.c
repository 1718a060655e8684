/*
 * test_snapshot_forged.c - snapshots that no writer makes are refused, and those that earlier ones made are read.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/m2kd/snapshot_coding.h"
#include "core/m2kd/statistics.h"
#include "core/nn/half.h"
#include "core/storage/container.h"
#include "tests/unit/core/snapshot_fixture.h"

/* What earlier files have section `id` for. */
static uint32_t in_place_of(uint32_t id)
{
    return id == CONTAINER_ID('M', 'A', 'S', 'K')   ? CONTAINER_ID('M', 'S', 'K', 'A')
           : id == CONTAINER_ID('C', 'O', 'D', 'E') ? CONTAINER_ID('C', 'O', 'D', 'A')
                                                    : id;
}

/* Saves `f`, replaces or adds section `id` (leaves it out if `data` is NULL), checksums right, and
 * returns what loading it says. */
static int load_forged(const struct fixture *f, uint32_t id, const void *data, size_t bytes)
{
    static const char names[][5] = {"SPEC", "STEP", "COVF", "MEAN", "EXPT", "MSKA", "MASK",
                                     "SCAL", "CODA", "CODE", "KEPT", "RESF"};
    struct container *c;
    struct container_section out[13];
    int count = 0;
    assert_int_equal(save(f, NULL), 0);
    assert_int_equal(container_read(&c, path, CONTAINER_SNAPSHOT), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *s = names[i];
        uint32_t this = CONTAINER_ID(s[0], s[1], s[2], s[3]);
        if (this == id && data)
            out[count++] = (struct container_section){id, bytes, data};
        else if (this != id && this != in_place_of(id) && container_find(c, this, &out[count]) == 0)
            count++;
    }
    assert_int_equal(container_write(path, CONTAINER_SNAPSHOT, out, count, NULL), 0);
    container_free(c);
    struct model *m = NULL;
    int err = snapshot_load(&m, path, CONV_ISA_BASELINE);
    assert_true((err == 0) == (m != NULL));
    model_release(m);
    return err;
}

static size_t pack(uint8_t *packed, size_t room, const uint8_t *bits, size_t bytes)
{
    size_t n = ZSTD_compress(packed, room, bits, bytes, 3);
    assert_false(ZSTD_isError(n));
    return n;
}

static void test_forged_sections_are_refused(void **state)
{
    (void)state;
    const uint32_t MASK = CONTAINER_ID('M', 'A', 'S', 'K'), KEPT = CONTAINER_ID('K', 'E', 'P', 'T'),
                   RESF = CONTAINER_ID('R', 'E', 'S', 'F');
    static uint8_t bits[20000], packed[40000], planes[40000];
    static uint16_t halves[100000];
    struct fixture f;
    make(&f, 0.3f, SNAPSHOT_HALF);
    size_t conv = 0, kept = 0, rest;
    for (int l = 0; l < f.m->net->layer_count; l++) {
        const struct param_entry *e = &f.m->net->params.entries[f.m->net->layers[l].weight];
        conv += e->count;
        for (size_t i = 0; i < e->count; i++)
            kept += f.mask[e->offset + i];
    }
    rest = f.m->net->params.count - conv;
    size_t bytes = (conv + 7) / 8;
    for (size_t i = 0; i < kept; i++)
        bits[i / 8] |= (uint8_t)(1u << i % 8);

    /* The forger's tools work: the same sizes, other contents. */
    assert_int_equal(load_forged(&f, MASK, packed, pack(packed, sizeof packed, bits, bytes)), 0);
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2), 0);
    assert_true(rest * 2 < sizeof planes);
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), 0);

    assert_int_equal(load_forged(&f, CONTAINER_ID('M', 'S', 'K', 'A'), NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, KEPT, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, RESF, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, MASK, "not zstd", 8), ERR_FORMAT);
    size_t n = pack(packed, sizeof packed, bits, bytes);
    assert_int_equal(load_forged(&f, MASK, packed, n - 1), ERR_FORMAT);
    n = pack(packed, sizeof packed, bits, bytes - 1);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    n = pack(packed, sizeof packed, bits, bytes + 1);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    n = pack(packed, sizeof packed, bits, bytes / 2); /* two frames that add up */
    n += pack(packed + n, sizeof packed - n, bits + bytes / 2, bytes - bytes / 2);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    bits[kept / 8] ^= (uint8_t)(1u << kept % 8); /* one more than KEPT has */
    n = pack(packed, sizeof packed, bits, bytes);
    assert_int_equal(load_forged(&f, MASK, packed, n), ERR_FORMAT);
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2 - 2), ERR_FORMAT);
    n = pack(packed, sizeof packed, planes, rest * 2 + 2);
    assert_int_equal(load_forged(&f, RESF, packed, n), ERR_FORMAT);
    halves[kept - 1] = 0x7c00; /* infinity */
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2), ERR_CORRUPT);
    planes[2 * rest - 1] = 0xbc; /* the high byte of -1, of the last variance */
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), ERR_CORRUPT);
    planes[2 * rest - 1] = 0;
    planes[rest] = 0xbc; /* of a gamma */
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), 0);
    planes[rest] = 0x7e; /* not a number */
    assert_int_equal(load_forged(&f, RESF, packed, pack(packed, sizeof packed, planes, rest * 2)), ERR_CORRUPT);
    drop(&f);
}

/* A section that codes `count` numbers, each as the first of its kind, and `more` bytes. */
static size_t code(uint8_t *to, const int *numbers, int count, size_t more)
{
    struct arithmetic a;
    size_t bytes;
    void *coded;
    arithmetic_encoder(&a);
    for (int i = 0; i < count; i++) {
        struct number_model fresh = {0};
        arithmetic_number(&a, &fresh, numbers[i]);
    }
    assert_int_equal(arithmetic_finish(&a, &coded, &bytes), 0);
    memset(to, 0, bytes + more);
    memcpy(to, coded, bytes);
    free(coded);
    return bytes + more;
}

/* Coded sections: cut, longer, of any bytes, and with numbers that no writer makes. Their first number is coded by models that know nothing. */
static void test_forged_streams_are_refused(void **state)
{
    (void)state;
    static const char ids[][5] = {"MSKA", "CODA", "COVF", "MEAN"};
    static const struct {
        const char *id;
        int numbers[2], count;
    } wrong[] = {
        {"CODA", {128, 0}, 1},
        {"CODA", {-128, 0}, 1},
        {"COVF", {STATISTICS_EXPONENT_MIN - 1, 0}, 1},
        {"COVF", {STATISTICS_EXPONENT_MAX + 1, 0}, 1},
        {"COVF", {0, 256}, 2},
        {"COVF", {0, -1}, 2},
        {"MEAN", {STATISTICS_MEAN_MAX + 1, 0}, 1},
        {"MEAN", {-STATISTICS_MEAN_MAX - 1, 0}, 1},
    };
    static uint8_t bytes[200000];
    struct fixture f;
    make(&f, 0.3f, 6);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const uint32_t id = CONTAINER_ID(ids[i][0], ids[i][1], ids[i][2], ids[i][3]);
        struct container_section s;
        struct container *c;
        assert_int_equal(save(&f, NULL), 0);
        assert_int_equal(container_read(&c, path, CONTAINER_SNAPSHOT), 0);
        assert_int_equal(container_find(c, id, &s), 0);
        size_t n = (size_t)s.size_bytes;
        memcpy(bytes, s.data, n);
        container_free(c);
        assert_int_equal(load_forged(&f, id, bytes, n), 0);
        assert_int_equal(load_forged(&f, id, NULL, 0), ERR_FORMAT);
        bytes[n] = 0;
        assert_int_equal(load_forged(&f, id, bytes, n + 1), ERR_FORMAT);
        assert_int_not_equal(load_forged(&f, id, bytes, n - 1), 0);
        assert_int_not_equal(load_forged(&f, id, bytes, 0), 0);
        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)(k * 151 + k / 7);
        assert_int_not_equal(load_forged(&f, id, bytes, n), 0);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *id = wrong[i].id;
        size_t n = code(bytes, wrong[i].numbers, wrong[i].count, 1000);
        assert_int_equal(load_forged(&f, CONTAINER_ID(id[0], id[1], id[2], id[3]), bytes, n), ERR_CORRUPT);
    }
    drop(&f);
}

static void test_forged_experts_are_refused(void **state)
{
    (void)state;
    enum { NAMES = MODEL_MAX_WIDTH / 64 };
    const uint32_t EXPT = CONTAINER_ID('E', 'X', 'P', 'T');
    static model_expert_name names[NAMES];
    struct fixture f;
    make(&f, 0.3f, 6);
    snprintf(names[0], sizeof names[0], "../1");
    assert_int_equal(load_forged(&f, EXPT, names, sizeof *names), ERR_FORMAT);
    for (int i = 0; i < NAMES; i++)
        snprintf(names[i], sizeof names[i], "%d", i);
    assert_int_equal(load_forged(&f, EXPT, names, sizeof *names), ERR_FORMAT); /* the rest is not as wide */
    assert_int_equal(load_forged(&f, EXPT, names, sizeof *names - 1), ERR_FORMAT);
    assert_int_equal(load_forged(&f, EXPT, names, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, EXPT, names, sizeof names), ERR_FORMAT);
    drop(&f);
}

enum { EARLIER_ENTRIES = 64 * 65 / 2, EARLIER_MEANS = 4 * 64 };

/* Sections as they once were, of those that `c` has. */
struct earlier {
    uint8_t bits[20000], mask[100000], packed_mask[20000], packed_codes[40000], planes[40000], rest[40000];
    int8_t codes[100000];
    size_t mask_bytes, codes_bytes, rest_bytes;
};

static void decode(struct arithmetic *a, const struct container *c, uint32_t id)
{
    struct container_section s;
    assert_int_equal(container_find(c, id, &s), 0);
    arithmetic_decoder(a, s.data, s.size_bytes);
}

static void make_earlier(struct earlier *e, const struct fixture *f, const struct container *c)
{
    const struct param_table *t = &f->m->net->params;
    struct container_section s;
    struct arithmetic a;
    size_t bits = 0, kept = 0;
    for (int i = 0; i < t->entry_count; i++)
        if (t->entries[i].kind == PARAM_CONV_WEIGHT)
            bits += t->entries[i].count;
    assert_true(bits / 8 < sizeof e->bits && t->count <= sizeof e->mask);
    memset(e->mask, MASK_KEPT, sizeof e->mask);
    memset(e->bits, 0, sizeof e->bits);
    decode(&a, c, CONTAINER_ID('M', 'S', 'K', 'A'));
    assert_int_equal(coding_mask(&a, t, e->mask, e->bits), 0);
    for (size_t i = 0; i < bits; i++)
        kept += e->bits[i / 8] >> i % 8 & 1;
    e->mask_bytes = pack(e->packed_mask, sizeof e->packed_mask, e->bits, (bits + 7) / 8);
    decode(&a, c, CONTAINER_ID('C', 'O', 'D', 'A'));
    assert_int_equal(coding_weights(&a, t, e->mask, e->bits, e->codes), 0);
    e->codes_bytes = pack(e->packed_codes, sizeof e->packed_codes, (const uint8_t *)e->codes, kept);
    assert_int_equal(container_find(c, CONTAINER_ID('R', 'E', 'S', 'F'), &s), 0);
    e->rest_bytes = ZSTD_decompress(e->planes, sizeof e->planes, s.data, s.size_bytes);
    assert_false(ZSTD_isError(e->rest_bytes));
    for (size_t k = 0; k < e->rest_bytes / 2; k++) {
        e->rest[2 * k] = e->planes[k];
        e->rest[2 * k + 1] = e->planes[e->rest_bytes / 2 + k];
    }
}

/* The snapshot of `f` as it was before anything was coded: with MASK, CODE, REST, PROT and `covariance`. */
static void write_earlier(const struct fixture *f, const uint16_t *prototypes,
                          struct container_section covariance)
{
    static struct earlier e;
    struct container_section out[CONTAINER_MAX_SECTIONS];
    struct container *c;
    assert_int_equal(save(f, NULL), 0);
    assert_int_equal(container_read(&c, path, CONTAINER_SNAPSHOT), 0);
    make_earlier(&e, f, c);
    int count = container_sections(c, out);
    for (int i = 0; i < count; i++) {
        const struct {
            uint32_t id;
            struct container_section was;
        } before[] = {
            {CONTAINER_ID('M', 'S', 'K', 'A'), {CONTAINER_ID('M', 'A', 'S', 'K'), e.mask_bytes, e.packed_mask}},
            {CONTAINER_ID('C', 'O', 'D', 'A'), {CONTAINER_ID('C', 'O', 'D', 'E'), e.codes_bytes, e.packed_codes}},
            {CONTAINER_ID('R', 'E', 'S', 'F'), {CONTAINER_ID('R', 'E', 'S', 'T'), e.rest_bytes, e.rest}},
            {CONTAINER_ID('M', 'E', 'A', 'N'), {CONTAINER_ID('P', 'R', 'O', 'T'), EARLIER_MEANS * sizeof *prototypes, prototypes}},
            {CONTAINER_ID('C', 'O', 'V', 'F'), covariance},
        };
        uint32_t id = out[i].id;
        for (size_t k = 0; k < sizeof before / sizeof *before; k++)
            if (before[k].id == id)
                out[i] = before[k].was;
    }
    assert_int_equal(container_write(path, CONTAINER_SNAPSHOT, out, count, NULL), 0);
    container_free(c);
}

static int load_status(void)
{
    struct model *m = NULL;
    int err = snapshot_load(&m, path, CONV_ISA_BASELINE);
    model_release(m);
    return err;
}

/* Files of before can be read, and what is written of them is of today. */
static void test_earlier_files(void **state)
{
    (void)state;
    static struct {
        float scale;
        uint16_t halves[EARLIER_ENTRIES];
    } halves;
    static float floats[EARLIER_ENTRIES];
    static uint16_t prototypes[EARLIER_MEANS];
    static const float scales[] = {0, -1, 0.3f, NAN, INFINITY, 1e-40f};
    struct fixture f;
    make(&f, 0.3f, 6);
    halves.scale = 0.25f;
    for (int i = 0; i < EARLIER_MEANS; i++)
        prototypes[i] = half_from_float((float)i / 1024);
    for (int i = 0; i < EARLIER_ENTRIES; i++) {
        halves.halves[i] = half_from_float((float)(i % 90) / 128);
        floats[i] = (float)(i % 90) / 512;
    }
    struct container_section in[] = {
        {CONTAINER_ID('C', 'O', 'V', 'H'), sizeof halves, &halves},
        {CONTAINER_ID('C', 'O', 'V', 'A'), sizeof floats, floats},
    };
    for (int i = 0; i < 2; i++) {
        struct model *m, *again;
        char refined[80];
        write_earlier(&f, prototypes, in[i]);
        assert_int_equal(snapshot_load(&m, path, CONV_ISA_BASELINE), 0);
        assert_memory_equal(m->covariance, floats, sizeof floats);
        assert_memory_equal(m->params, f.m->params, model_dense_bytes(m));
        for (int k = 0; k < EARLIER_MEANS; k++)
            assert_true(m->prototypes[k] == (float)k / 1024);
        assert_int_equal(snapshot_round_refined(m), 0);
        snprintf(refined, sizeof refined, "%s-refined", path);
        assert_int_equal(snapshot_save_refined(m, path, refined, NULL), 0);
        assert_int_equal(snapshot_load(&again, refined, CONV_ISA_BASELINE), 0);
        assert_memory_equal(again->covariance, m->covariance, sizeof floats);
        assert_memory_equal(again->prototypes, m->prototypes, EARLIER_MEANS * sizeof(float));
        assert_memory_equal(again->params, m->params, model_dense_bytes(m));
        struct container_section s;
        struct container *c;
        assert_int_equal(container_read(&c, refined, CONTAINER_SNAPSHOT), 0);
        assert_int_equal(container_find(c, CONTAINER_ID('C', 'O', 'V', 'A'), &s), ERR_FORMAT);
        container_free(c);
        unlink(refined);
        model_release(m);
        model_release(again);
    }
    in[0].size_bytes -= 2;
    write_earlier(&f, prototypes, in[0]);
    assert_int_equal(load_status(), ERR_FORMAT);
    in[0].size_bytes += 2;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        halves.scale = scales[i];
        write_earlier(&f, prototypes, in[0]);
        assert_int_equal(load_status(), ERR_CORRUPT);
    }
    halves.scale = 0x1p127f;
    halves.halves[3] = 0x7bff; /* of which the scale makes infinity */
    write_earlier(&f, prototypes, in[0]);
    assert_int_equal(load_status(), ERR_CORRUPT);
    prototypes[7] = 0x7c00; /* infinity */
    write_earlier(&f, prototypes, in[1]);
    assert_int_equal(load_status(), ERR_CORRUPT);
    drop(&f);
}

static void test_forged_codes_are_refused(void **state)
{
    (void)state;
    const uint32_t SCAL = CONTAINER_ID('S', 'C', 'A', 'L'), CODE = CONTAINER_ID('C', 'O', 'D', 'E'),
                   KEPT = CONTAINER_ID('K', 'E', 'P', 'T');
    static uint8_t codes[100000], packed[200000];
    static uint16_t scales[1000], halves[100000];
    struct fixture f;
    size_t kept = 0, channels = 0;
    make(&f, 0.3f, 6);
    for (int l = 0; l < f.m->net->layer_count; l++) {
        const struct param_entry *e = &f.m->net->params.entries[f.m->net->layers[l].weight];
        channels += (size_t)e->dims[3];
        for (size_t i = 0; i < e->count; i++)
            kept += f.mask[e->offset + i];
    }
    size_t n = pack(packed, sizeof packed, codes, kept);
    assert_int_equal(load_forged(&f, CODE, packed, n), 0);
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2), 0);

    assert_int_equal(load_forged(&f, CONTAINER_ID('C', 'O', 'D', 'A'), NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, SCAL, NULL, 0), ERR_FORMAT);
    assert_int_equal(load_forged(&f, KEPT, halves, kept * 2), ERR_FORMAT); /* both forms */
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2 - 2), ERR_FORMAT);
    assert_int_equal(load_forged(&f, CODE, packed, n - 1), ERR_FORMAT);
    n = pack(packed, sizeof packed, codes, kept + 1);
    assert_int_equal(load_forged(&f, CODE, packed, n), ERR_FORMAT);
    codes[kept - 1] = 0x80; /* -128: no writer makes it */
    n = pack(packed, sizeof packed, codes, kept);
    assert_int_equal(load_forged(&f, CODE, packed, n), ERR_CORRUPT);
    scales[channels - 1] = 0xbf80; /* -1 */
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2), ERR_CORRUPT);
    scales[channels - 1] = 0x7f80; /* infinity */
    assert_int_equal(load_forged(&f, SCAL, scales, channels * 2), ERR_CORRUPT);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forged_sections_are_refused),
        cmocka_unit_test(test_forged_streams_are_refused),
        cmocka_unit_test(test_forged_experts_are_refused),
        cmocka_unit_test(test_earlier_files),
        cmocka_unit_test(test_forged_codes_are_refused),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
