/*
 * test_shared.c - snapshots that share their weights: every step's model comes back bit for bit, whatever was learned after
 * it, and nothing that is not its chain gets in.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/m2kd/teachers.h"
#include "core/nn/rng.h"
#include "core/storage/container.h"

enum { SIDE = 8, PIXELS = SIDE * SIDE * 3, CHAIN = 3, IMAGES = 16, TWO_OF_A_STEP = 2 };

static char dir[] = "/tmp/accreted-shared-XXXXXX";

struct step {
    struct model *m; /* as it was saved */
    uint8_t *mask;
    char path[64];
    uint64_t bytes;
};

static void set_path(char *out, const char *name)
{
    snprintf(out, 64, "%s/%s", dir, name);
}

/* Trains as far as a snapshot is concerned: everything that is not owned goes somewhere else. */
static void shake(struct model *m, const uint8_t *owned, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, 0);
    for (size_t i = 0; i < m->net->params.count; i++)
        if (!owned || owned[i] != MASK_OWNED)
            m->params[i] += 0.05f + 0.1f * rng_uniform(&r);
    for (int i = 0; i < m->net->spec.classes * m->net->feature_count; i++)
        m->prototypes[i] = rng_uniform(&r);
    for (int i = 0; i < m->net->feature_count; i++)
        m->covariance[i * (i + 1) / 2 + i] = 0.01f;
}

/* Step `count` of a chain on `below` (NULL: none), pruned to `keep` of what is free and saved. */
static void make_step(struct step *s, int count, const struct step *below, const char *name,
                      float keep, int bits)
{
    static const int ends[] = {2, 4, 6, 8};
    const struct resnet_spec spec = {.blocks = 1, .channels = 3, .height = SIDE, .width = SIDE,
                                     .classes = TWO_OF_A_STEP * count};
    struct model *base = NULL;
    uint8_t *owned = NULL;
    set_path(s->path, name);
    assert_int_equal(model_new(&s->m, &spec, ends, count, CONV_ISA_BASELINE), 0);
    size_t floats = s->m->net->params.count;
    uint8_t *grown = malloc(floats);
    s->mask = malloc(floats);
    memset(grown, MASK_KEPT, floats);
    resnet_initialise(s->m->net, 5, s->m->params);
    if (below) {
        assert_int_equal(snapshot_load_owned(&base, &owned, below->path, CONV_ISA_BASELINE), 0);
        resnet_grow(base->net, base->params, s->m->net, 7, s->m->params);
        for (int i = 0; i < s->m->net->params.entry_count; i++) {
            const struct param_entry *e = &s->m->net->params.entries[i];
            if (e->kind == PARAM_CONV_WEIGHT)
                memcpy(grown + e->offset, owned + e->offset, e->count);
        }
    }
    shake(s->m, grown, (uint64_t)count + (uint64_t)name[0] * 100);
    assert_int_equal(mask_by_magnitude(s->m->net, s->m->params, grown, keep, s->mask), 0);
    mask_apply(s->mask, floats, s->m->params);
    assert_int_equal(snapshot_round(s->m, s->mask, bits), 0);
    assert_int_equal(below ? snapshot_save_shared(s->m, s->mask, bits, below->path, s->path,
                                                  &s->bytes)
                           : snapshot_save(s->m, s->mask, bits, s->path, &s->bytes),
                     0);
    model_release(base);
    free(owned);
    free(grown);
}

static void drop_step(struct step *s)
{
    model_release(s->m);
    free(s->mask);
    unlink(s->path);
}

static void make_chain(struct step *s, float keep, int bits)
{
    make_step(&s[0], 1, NULL, "a", keep, bits);
    make_step(&s[1], 2, &s[0], "b", keep, bits);
    make_step(&s[2], 3, &s[1], "c", keep, bits);
}

static void drop_chain(struct step *s)
{
    for (int i = 0; i < CHAIN; i++)
        drop_step(&s[i]);
}

static void check_same(const struct step *s)
{
    struct model *m;
    assert_int_equal(snapshot_load(&m, s->path, CONV_ISA_BASELINE), 0);
    assert_memory_equal(m->params, s->m->params, m->net->params.count * sizeof *m->params);
    assert_memory_equal(m->prototypes, s->m->prototypes,
                        (size_t)m->net->spec.classes * m->net->feature_count * sizeof(float));
    model_release(m);
}

static void test_every_step_comes_back(void **state)
{
    (void)state;
    static const int bits[] = {SNAPSHOT_HALF, 6, 2};
    for (int b = 0; b < 3; b++) {
        struct step s[CHAIN], branch;
        make_chain(s, 0.25f, bits[b]);
        make_step(&branch, 2, &s[0], "other", 0.5f, bits[b]);
        for (int i = 0; i < CHAIN; i++)
            check_same(&s[i]);
        check_same(&branch);
        drop_step(&branch);
        drop_chain(s);
    }
}

/* One set of values: where a step owns a weight, every later one of its chain has it, and a branch
 * may claim what a later step of another chain did. */
static void test_one_set_of_values(void **state)
{
    (void)state;
    struct step s[CHAIN], branch;
    int claimed[CHAIN] = {0}, again = 0;
    make_chain(s, 0.25f, 6);
    make_step(&branch, 2, &s[0], "other", 0.5f, 6);
    const struct param_entry *e = &s[0].m->net->params.entries[s[0].m->net->layers[4].weight];
    for (size_t i = e->offset; i < e->offset + e->count; i++) {
        for (int at = 0; at < CHAIN; at++) {
            claimed[at] += s[at].mask[i] == MASK_KEPT;
            for (int later = at; later < CHAIN && s[at].mask[i] != MASK_PRUNED; later++)
                assert_memory_equal(&s[later].m->params[i], &s[at].m->params[i], sizeof(float));
        }
        again += s[1].mask[i] == MASK_KEPT && branch.mask[i] == MASK_KEPT;
    }
    assert_int_equal(claimed[0], (e->count + 3) / 4);
    assert_int_equal(claimed[1], (e->count - claimed[0] + 3) / 4);
    assert_int_equal(claimed[2], (e->count - claimed[0] - claimed[1] + 3) / 4);
    assert_true(again > 0);
    drop_step(&branch);
    drop_chain(s);
}

/* A later file holds only what its step claimed. */
static void test_smaller_than_standalone(void **state)
{
    (void)state;
    struct step s[CHAIN];
    uint64_t alone;
    char path[64];
    make_chain(s, 0.25f, 8);
    set_path(path, "alone");
    uint8_t *mask = malloc(s[2].m->net->params.count);
    for (size_t i = 0; i < s[2].m->net->params.count; i++)
        mask[i] = s[2].mask[i] != MASK_PRUNED;
    assert_int_equal(snapshot_round(s[2].m, mask, SNAPSHOT_HALF), 0);
    assert_int_equal(snapshot_save(s[2].m, mask, SNAPSHOT_HALF, path, &alone), 0);
    assert_true(s[2].bytes < s[1].bytes && s[1].bytes < s[0].bytes && s[2].bytes < alone / 2);
    unlink(path);
    free(mask);
    drop_chain(s);
}

/* What a teacher says is what the network said that was stored. */
static void test_teachers_logits(void **state)
{
    (void)state;
    struct step s[CHAIN];
    struct teachers *t;
    const char *paths[CHAIN];
    float x[IMAGES * PIXELS], logits[IMAGES * TWO_OF_A_STEP * CHAIN];
    struct rng r;
    rng_init(&r, 3, 0);
    for (int i = 0; i < IMAGES * PIXELS; i++)
        x[i] = rng_uniform(&r);
    make_chain(s, 0.25f, 6);
    for (int i = 0; i < CHAIN; i++)
        paths[i] = s[i].path;
    struct teachers_options options = {.student = s[CHAIN - 1].m->net,
                                       .old_classes = CHAIN * TWO_OF_A_STEP,
                                       .precision = CONV_FP32, .member_count = 1,
                                       .batch_max = IMAGES, .isa = CONV_ISA_BASELINE};
    assert_int_equal(teachers_new(&t, paths, CHAIN, &options), 0);
    teachers_forward(t, 0, 0, 0, IMAGES, x, true);
    for (int i = 0; i < CHAIN; i++) {
        struct frozen *f;
        struct frozen_workspace *ws;
        int classes = s[i].m->net->spec.classes;
        assert_int_equal(frozen_new(&f, s[i].m), 0);
        assert_int_equal(frozen_workspace_new(&ws, f), 0);
        for (int head = 0; head < s[i].m->net->head_count; head++) {
            struct frozen_output out = {.features = NULL};
            out.logits[head] = logits;
            frozen_forward(f, ws, IMAGES, x, &out);
            for (int n = 0; n < IMAGES; n++)
                assert_memory_equal(teachers_logits(t, head, n) + TWO_OF_A_STEP * i,
                                    logits + n * classes + TWO_OF_A_STEP * i,
                                    TWO_OF_A_STEP * sizeof(float));
        }
        frozen_workspace_free(ws);
        frozen_free(f);
    }
    teachers_free(t);
    drop_chain(s);
}

enum { BATCHES = 4 * CHAIN * 2, CHUNKS = 4, ROWS = CHUNKS * 16 };

static struct teachers_options options_of(const struct step *s, int count)
{
    return (struct teachers_options){.student = s[count - 1].m->net, .old_classes = count * TWO_OF_A_STEP,
                                     .per_image = 1, .base = s[count - 1].m, .member_count = 1,
                                     .precision = CONV_FP32, .batch_max = ROWS,
                                     .isa = CONV_ISA_BASELINE};
}

/* Chunks of rows meet the snapshots in turn, and one in four the base for all of them; weighted as teachers.h says, all groups of
 * classes count the same as if every row met all. */
static void check_turns(const struct step *s, const char *const *paths, int count)
{
    const struct teachers_options options = options_of(s, count);
    struct teachers *t;
    double met[CHAIN] = {0}, base = 0;
    assert_int_equal(teachers_new(&t, paths, count, &options), 0);
    for (int b = 0; b < BATCHES; b++)
        for (int i = 0; i < ROWS; i += 16) {
            int first, end;
            base += teachers_features(t, b, i) ? teachers_features_weight(t) : 0;
            teachers_of_row(t, b, i, 0, &first, &end);
            assert_int_equal(teachers_per_row(t, b, i), 1);
            assert_int_equal(end - first, TWO_OF_A_STEP * (teachers_features(t, b, i) ? count : 1));
            for (int c = first; c < end; c += TWO_OF_A_STEP)
                met[c / TWO_OF_A_STEP] += teachers_weight(t, b, i);
        }
    assert_true(base == BATCHES * CHUNKS);
    for (int i = 0; i < count; i++)
        assert_true(fabs(met[i] - BATCHES * CHUNKS) < 1e-3);
    teachers_free(t);
}

static void test_base_takes_its_turn(void **state)
{
    (void)state;
    struct step s[CHAIN];
    struct teachers *t;
    const char *paths[CHAIN];
    static float x[ROWS * PIXELS];
    make_chain(s, 0.25f, 6);
    for (int i = 0; i < CHAIN; i++)
        paths[i] = s[i].path;
    for (int i = 0; i < ROWS * PIXELS; i++)
        x[i] = (float)(i % 97) / 97 - 0.5f;
    for (int count = 1; count <= CHAIN; count++)
        check_turns(s, paths, count);

    struct teachers_options options = options_of(s, CHAIN);
    float features[64];
    struct frozen *f;
    struct frozen_workspace *ws;
    assert_int_equal(frozen_new(&f, s[CHAIN - 1].m), 0);
    assert_int_equal(frozen_workspace_new(&ws, f), 0);
    assert_int_equal(teachers_new(&t, paths, CHAIN, &options), 0);
    teachers_forward(t, 0, 3, 0, ROWS, x, true);
    assert_null(teachers_features(t, 3, 0));
    assert_non_null(teachers_features(t, 3, 16));
    for (int i = 0; i < ROWS; i++) {
        const float *got = teachers_features(t, 3, i);
        struct frozen_output out = {.features = features};
        frozen_forward(f, ws, 1, x + i * PIXELS, &out);
        for (int k = 0; got && k < s[0].m->net->feature_count; k++)
            assert_true(fabsf(got[k] - features[k]) < 1e-4f);
    }
    frozen_workspace_free(ws);
    frozen_free(f);
    teachers_free(t);

    options.batch_max = 16; /* so that no batch is without it */
    assert_int_equal(teachers_new(&t, paths, CHAIN, &options), 0);
    for (int b = 0; b < 4; b++)
        assert_non_null(teachers_features(t, b, 0));
    assert_true(teachers_features_weight(t) == 1);
    teachers_free(t);
    options.batch_max = ROWS;
    options.per_image = 0; /* everyone, for every row */
    assert_int_equal(teachers_new(&t, paths, CHAIN, &options), 0);
    assert_non_null(teachers_features(t, 0, 0));
    assert_non_null(teachers_features(t, 0, 16));
    assert_int_equal(teachers_per_row(t, 0, 0), CHAIN);
    assert_true(teachers_weight(t, 0, 0) == 1 && teachers_features_weight(t) == 1);
    teachers_free(t);
    options.base = NULL;
    assert_int_equal(teachers_new(&t, paths, CHAIN, &options), 0);
    assert_null(teachers_features(t, 0, 0));
    teachers_free(t);
    drop_chain(s);
}

static int teachers_of(const char *const *paths, int count, const struct teachers_options *o)
{
    struct teachers *t;
    int err = teachers_new(&t, paths, count, o);
    if (!err)
        teachers_free(t);
    return err;
}

/* Teachers are of the student's network and teach each of its old classes once; so is the base. */
static void test_teachers_fit_the_student(void **state)
{
    (void)state;
    struct step s[CHAIN];
    const char *paths[CHAIN], *swapped[CHAIN];
    static const int two[] = {2};
    const struct resnet_spec spec = {.blocks = 2, .channels = 3, .height = SIDE, .width = SIDE,
                                     .classes = 2};
    struct model *other;
    assert_int_equal(model_new(&other, &spec, two, 1, CONV_ISA_BASELINE), 0);
    make_chain(s, 0.25f, 6);
    for (int i = 0; i < CHAIN; i++)
        paths[i] = swapped[i] = s[i].path;
    swapped[1] = s[2].path;
    for (int last = 0; last < 2; last++) {
        const struct teachers_options right = {
            .which = last ? TEACHERS_LAST : TEACHERS_ALL, .student = s[0].m->net,
            .old_classes = CHAIN * TWO_OF_A_STEP, .member_count = 1, .batch_max = IMAGES,
            .isa = CONV_ISA_BASELINE};
        struct teachers_options o = right;
        assert_int_equal(teachers_of(paths, CHAIN, &o), 0);
        o.old_classes--;
        assert_int_equal(teachers_of(paths, CHAIN, &o), ERR_FORMAT);
        o.old_classes += 2;
        assert_int_equal(teachers_of(paths, CHAIN, &o), ERR_FORMAT);
        o = right;
        o.student = other->net;
        assert_int_equal(teachers_of(paths, CHAIN, &o), ERR_FORMAT);
        o = right;
        o.base = s[CHAIN - 1].m;
        assert_int_equal(teachers_of(paths, CHAIN, &o), 0);
        o.base = s[0].m; /* of fewer classes */
        assert_int_equal(teachers_of(paths, CHAIN, &o), ERR_FORMAT);
        o.base = other;
        assert_int_equal(teachers_of(paths, CHAIN, &o), ERR_FORMAT);
        assert_int_equal(teachers_of(swapped, 2, &right), ERR_FORMAT); /* of another step */
    }
    model_release(other);
    drop_chain(s);
}

static int load(const char *path)
{
    struct model *m;
    int err = snapshot_load(&m, path, CONV_ISA_BASELINE);
    if (!err)
        model_release(m);
    return err;
}

/* The file below is missing, is another one, or is of another step. */
static void test_refuses_another_base(void **state)
{
    (void)state;
    struct step s[CHAIN], other;
    char kept[64];
    make_chain(s, 0.25f, 6);
    set_path(kept, "kept");
    assert_int_equal(rename(s[0].path, kept), 0);
    assert_int_equal(load(s[2].path), ERR_MISSING);
    make_step(&other, 1, NULL, "a", 0.5f, 6);
    assert_int_equal(load(s[2].path), ERR_CORRUPT);
    drop_step(&other);
    assert_int_equal(rename(kept, s[0].path), 0);
    assert_int_equal(load(s[2].path), 0);
    assert_int_equal(snapshot_save_shared(s[2].m, s[2].mask, 6, s[0].path, s[1].path, NULL), 0);
    assert_int_equal(load(s[1].path), ERR_FORMAT); /* of step 3, on one of step 1 */
    drop_chain(s);
}

/* Rewrites `path` with other bytes as its section BASE. */
static void put_base(const char *path, const void *base, size_t size_bytes)
{
    static const char ids[][5] = {"SPEC", "STEP", "COVF", "MEAN", "MSKA", "SCAL", "CODA", "RESF"};
    struct container *c;
    struct container_section sections[9];
    assert_int_equal(container_read(&c, path, CONTAINER_SNAPSHOT), 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(container_find(c, CONTAINER_ID(ids[i][0], ids[i][1], ids[i][2],
                                                        ids[i][3]), &sections[i]), 0);
    sections[8] = (struct container_section){CONTAINER_ID('B', 'A', 'S', 'E'), size_bytes, base};
    assert_int_equal(container_write(path, CONTAINER_SNAPSHOT, sections, 9, NULL), 0);
    container_free(c);
}

static void test_refuses_names_that_lead_elsewhere(void **state)
{
    (void)state;
    static const char *const names[] = {"", ".", "../a", "/tmp/a", ".a", "x/a", "a b", "a\n"};
    struct step s[CHAIN];
    struct container *c;
    uint8_t base[64] = {0};
    make_chain(s, 0.25f, 6);
    assert_int_equal(container_read(&c, s[0].path, CONTAINER_SNAPSHOT), 0);
    uint64_t identity = container_identity(c);
    container_free(c);
    memcpy(base, &identity, sizeof identity);
    base[8] = 'a';
    put_base(s[1].path, base, sizeof base);
    assert_int_equal(load(s[1].path), 0); /* what put_base makes is good otherwise */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        memset(base + 8, 0, 56);
        memcpy(base + 8, names[i], strlen(names[i]));
        put_base(s[1].path, base, sizeof base);
        assert_int_equal(load(s[1].path), ERR_FORMAT);
    }
    memset(base + 8, 'a', 56); /* no zero at its end */
    put_base(s[1].path, base, sizeof base);
    assert_int_equal(load(s[1].path), ERR_FORMAT);
    memset(base + 9, 0, 55);
    base[20] = 'a'; /* something behind it */
    put_base(s[1].path, base, sizeof base);
    assert_int_equal(load(s[1].path), ERR_FORMAT);
    put_base(s[1].path, base, 9);
    assert_int_equal(load(s[1].path), ERR_FORMAT);
    drop_chain(s);
}

static void test_saving_refuses(void **state)
{
    (void)state;
    struct step s[CHAIN];
    char elsewhere[64];
    make_chain(s, 0.25f, 6);
    /* alone it would lack what the others own */
    assert_int_equal(snapshot_save(s[1].m, s[1].mask, 6, s[1].path, NULL), ERR_INVALID);
    snprintf(elsewhere, sizeof elsewhere, "%s/folder/b", dir);
    assert_int_equal(snapshot_save_shared(s[1].m, s[1].mask, 6, s[0].path, elsewhere, NULL),
                     ERR_INVALID);
    set_path(elsewhere, "none");
    assert_int_equal(snapshot_save_shared(s[1].m, s[1].mask, 6, elsewhere, s[1].path, NULL),
                     ERR_MISSING);
    check_same(&s[2]);
    drop_chain(s);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir); /* nothing was left behind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step_comes_back),
        cmocka_unit_test(test_one_set_of_values),
        cmocka_unit_test(test_smaller_than_standalone),
        cmocka_unit_test(test_teachers_logits),
        cmocka_unit_test(test_base_takes_its_turn),
        cmocka_unit_test(test_teachers_fit_the_student),
        cmocka_unit_test(test_refuses_another_base),
        cmocka_unit_test(test_refuses_names_that_lead_elsewhere),
        cmocka_unit_test(test_saving_refuses),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
