/*
 * test_mask.c - magnitude pruning keeps exactly the weights it should.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/m2kd/mask.h"

struct fixture {
    struct resnet *net;
    float *params;
    uint8_t *mask;
};

static int set_up(void **state)
{
    static struct fixture f;
    const struct resnet_spec spec = {
        .blocks = 1, .channels = 1, .height = 8, .width = 8, .classes = 2};
    if (resnet_new(&f.net, &spec, CONV_ISA_BASELINE) != 0)
        return -1;
    f.params = calloc(f.net->params.count, sizeof *f.params);
    f.mask = malloc(f.net->params.count);
    if (!f.params || !f.mask)
        return -1;
    resnet_initialise(f.net, 3, f.params);
    memset(f.mask, 7, f.net->params.count);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    resnet_free(f->net);
    free(f->params);
    free(f->mask);
    return 0;
}

static const struct param_entry *conv_entry(const struct fixture *f, int layer)
{
    return &f->net->params.entries[f->net->layers[layer].weight];
}

static void test_keeps_the_largest(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, 0.3f, f->mask), 0);
    for (int layer = 1; layer < f->net->layer_count; layer++) {
        const struct param_entry *e = conv_entry(f, layer);
        size_t kept = 0;
        float least_kept = INFINITY, largest_dropped = 0;
        for (size_t i = e->offset; i < e->offset + e->count; i++) {
            kept += f->mask[i];
            if (f->mask[i])
                least_kept = fminf(least_kept, fabsf(f->params[i]));
            else
                largest_dropped = fmaxf(largest_dropped, fabsf(f->params[i]));
        }
        assert_int_equal(kept, (e->count * 3 + 9) / 10);
        assert_true(least_kept >= largest_dropped);
    }
}

static void test_leaves_the_rest(void **state)
{
    struct fixture *f = *state;
    const struct param_table *t = &f->net->params;
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, 0.01f, f->mask), 0);
    for (int e = 0; e < t->entry_count; e++) {
        bool pruned = t->entries[e].kind == PARAM_CONV_WEIGHT && e != f->net->layers[0].weight;
        for (size_t i = 0; i < t->entries[e].count && !pruned; i++)
            assert_int_equal(f->mask[t->entries[e].offset + i], 1);
    }
}

/* Five weights of equal size compete for the last places: the first ones get them. */
static void test_ties_go_to_the_lower_index(void **state)
{
    struct fixture *f = *state;
    const struct param_entry *e = conv_entry(f, 1);
    float *w = f->params + e->offset;
    const size_t ties[5] = {10, 500, 501, 1000, e->count - 1};
    for (size_t i = 0; i < e->count; i++)
        w[i] = 0.001f;
    w[700] = -3.0f;
    for (int i = 0; i < 5; i++)
        w[ties[i]] = i % 2 ? -2.0f : 2.0f;
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, 4.0f / (float)e->count, f->mask), 0);
    size_t kept = 0;
    for (size_t i = 0; i < e->count; i++)
        kept += f->mask[e->offset + i];
    assert_int_equal(kept, 4);
    assert_int_equal(f->mask[e->offset + 700], 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(f->mask[e->offset + ties[i]], i < 3);
}

/* What earlier steps own is not up for choice, however large; of the rest the share is taken. */
static void test_chooses_among_the_free(void **state)
{
    struct fixture *f = *state;
    const struct param_entry *e = conv_entry(f, 2);
    uint8_t *owned = malloc(f->net->params.count);
    int kept = 0, last = conv_entry(f, 3)->count;
    memset(owned, MASK_KEPT, f->net->params.count);
    for (size_t i = 0; i < e->count; i += 4) {
        owned[e->offset + i] = MASK_OWNED;
        f->params[e->offset + i] = 9.0f;
    }
    memset(owned + conv_entry(f, 3)->offset, MASK_OWNED, (size_t)last);
    assert_int_equal(mask_by_magnitude(f->net, f->params, owned, 0.5f, f->mask), 0);
    for (size_t i = 0; i < e->count; i++) {
        assert_int_equal(f->mask[e->offset + i] == MASK_OWNED, i % 4 == 0);
        kept += f->mask[e->offset + i] == MASK_KEPT;
    }
    assert_int_equal(kept, (e->count - e->count / 4) / 2);
    for (int i = 0; i < last; i++)
        assert_int_equal(f->mask[conv_entry(f, 3)->offset + (size_t)i], MASK_OWNED);
    mask_apply(f->mask, f->net->params.count, f->params);
    assert_true(f->params[e->offset] == 9.0f);
    free(owned);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    memset(f->mask, 7, f->net->params.count);
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, 0.0f, f->mask), ERR_INVALID);
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, -1.0f, f->mask), ERR_INVALID);
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, 1.001f, f->mask), ERR_INVALID);
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, NAN, f->mask), ERR_INVALID);
    assert_int_equal(f->mask[0], 7);
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, 1.0f, f->mask), 0);
    for (size_t i = 0; i < f->net->params.count; i++)
        assert_int_equal(f->mask[i], 1);
    assert_int_equal(mask_by_magnitude(f->net, f->params, NULL, 1e-9f, f->mask), 0);
    const struct param_entry *e = conv_entry(f, 2);
    size_t kept = 0;
    for (size_t i = 0; i < e->count; i++)
        kept += f->mask[e->offset + i];
    assert_int_equal(kept, 1);
}

static void test_apply(void **state)
{
    (void)state;
    const uint8_t mask[6] = {MASK_PRUNED, MASK_KEPT,   MASK_PRUNED,
                             MASK_OWNED,  MASK_PRUNED, MASK_PRUNED};
    float values[6] = {1, -2, -3, 4, 5, 6};
    const float want[6] = {0, -2, 0, 4, 0, 6};
    mask_apply(mask, 5, values);
    assert_memory_equal(values, want, sizeof want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_the_largest),
        cmocka_unit_test(test_leaves_the_rest),
        cmocka_unit_test(test_ties_go_to_the_lower_index),
        cmocka_unit_test(test_chooses_among_the_free),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_apply),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
