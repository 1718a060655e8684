/* snapshot_fixture.h - a small pruned model to save, load and forge. */
#ifndef ACCRETED_TESTS_UNIT_CORE_SNAPSHOT_FIXTURE_H
#define ACCRETED_TESTS_UNIT_CORE_SNAPSHOT_FIXTURE_H

#include <stdlib.h>

#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "tests/unit/core/path_fixture.h"

static const int steps[2] = {2, 4};

struct fixture {
    struct model *m;
    uint8_t *mask;
    int bits;
};

/* A pruned and rounded network, with every kind of parameter away from its initial value. */
static void make(struct fixture *f, float keep, int bits)
{
    const struct resnet_spec spec = {
        .blocks = 1, .channels = 3, .height = 8, .width = 8, .classes = 4};
    assert_int_equal(model_new(&f->m, &spec, steps, 2, CONV_ISA_BASELINE), 0);
    resnet_initialise(f->m->net, 5, f->m->params);
    for (int e = 0; e < f->m->net->params.entry_count; e++) {
        const struct param_entry *entry = &f->m->net->params.entries[e];
        if (entry->kind == PARAM_CONV_WEIGHT)
            continue;
        for (size_t i = 0; i < entry->count; i++)
            f->m->params[entry->offset + i] += 0.001f * (float)((i * 7 + (size_t)e) % 100);
    }
    for (int i = 0; i < 4 * 64; i++)
        f->m->prototypes[i] = 0.003f * (float)(i % 91);
    for (int i = 0, at = 0; i < 64; i++)
        for (int j = 0; j <= i; j++)
            f->m->covariance[at++] = i == j ? 0.02f : 0.0001f * (float)((i * 7 + j * 13) % 21 - 10);
    for (uint32_t c = 0; c < 4; c++)
        f->m->images[c] = 500 * c;
    f->m->mean[1] = 0.4f;
    f->m->std[2] = 0.3f;
    f->m->score_scale = 9.0f;
    f->m->classifier = CLASSIFIER_PROTOTYPES;
    f->mask = malloc(f->m->net->params.count);
    assert_non_null(f->mask);
    assert_int_equal(mask_by_magnitude(f->m->net, f->m->params, NULL, keep, f->mask), 0);
    f->bits = bits;
    assert_int_equal(snapshot_round(f->m, f->mask, bits), 0);
}

static int save(const struct fixture *f, uint64_t *bytes)
{
    return snapshot_save(f->m, f->mask, f->bits, path, bytes);
}

static void drop(struct fixture *f)
{
    model_release(f->m);
    free(f->mask);
}

#endif
