/*
 * test_dataset.c - statistics, normalisation and random views of a data set.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/learner/dataset.h"

static const float zero[2] = {0, 0}, unit[2] = {1.0f / 255.0f, 1.0f / 255.0f};

/* One image of 2 x 3 x 2; with mean 0 and std 1/255 a view shows the pixel values themselves. */
static void make(struct dataset *d)
{
    static const uint8_t pixels[12] = {10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61};
    assert_int_equal(dataset_init(d, 1, 2, 3, 2), 0);
    memcpy(d->pixels, pixels, sizeof pixels);
    d->labels[0] = 4;
}

static void check_pixels(const float *got, const float *want)
{
    for (int i = 0; i < 12; i++)
        assert_true(fabsf(got[i] - want[i]) < 1e-4f);
}

static void test_init(void **state)
{
    (void)state;
    struct dataset d = {0};
    assert_int_equal(dataset_init(&d, -1, 2, 2, 1), ERR_INVALID);
    assert_int_equal(dataset_init(&d, 1, 0, 2, 1), ERR_INVALID);
    assert_int_equal(dataset_init(&d, 1, 2, 2, 0), ERR_INVALID);
    assert_int_equal(dataset_init(&d, INT32_MAX, INT32_MAX, INT32_MAX, 4), ERR_NOMEM);
    assert_null(d.pixels);
    assert_int_equal(dataset_init(&d, 0, 2, 2, 1), 0);
    float mean, std;
    dataset_statistics(&d, &mean, &std);
    assert_true(mean == 0.0f && std == 1.0f / 255.0f);
    dataset_release(&d);
    dataset_release(&d);
}

static void test_statistics(void **state)
{
    (void)state;
    struct dataset d;
    assert_int_equal(dataset_init(&d, 2, 1, 2, 2), 0);
    static const uint8_t pixels[8] = {0, 7, 255, 7, 255, 7, 0, 7};
    memcpy(d.pixels, pixels, sizeof pixels);
    float mean[2], std[2];
    dataset_statistics(&d, mean, std);
    assert_true(fabsf(mean[0] - 0.5f) < 1e-7f && fabsf(std[0] - 0.5f) < 1e-7f);
    assert_true(fabsf(mean[1] - 7.0f / 255.0f) < 1e-7f);
    assert_true(std[1] == 1.0f / 255.0f); /* a flat channel must not divide by zero */

    float out[4];
    dataset_image(&d, 1, mean, std, out);
    assert_true(out[0] == 1.0f && out[2] == -1.0f && fabsf(out[1]) < 1e-5f);
    dataset_release(&d);
}

/* The offsets and the flip that the next view of `rng` draws. */
static void peek(struct rng rng, int pad, int *dx, int *dy, bool *flip)
{
    uint64_t span = 2 * (uint64_t)pad + 1;
    *dx = (int)(rng_u32(&rng) * span >> 32) - pad;
    *dy = (int)(rng_u32(&rng) * span >> 32) - pad;
    *flip = rng_u32(&rng) >= 0x80000000u;
}

/* A position of the stream whose view is the wanted one. */
static struct rng find_view(int dx, int dy, bool flip)
{
    struct rng rng;
    rng_init(&rng, 1, 2);
    for (int tries = 0; tries < 1000; tries++) {
        int x, y;
        bool f;
        peek(rng, 1, &x, &y, &f);
        if (x == dx && y == dy && f == flip)
            return rng;
        for (int i = 0; i < 3; i++)
            rng_u32(&rng);
    }
    fail_msg("no such view in a thousand draws");
    return rng;
}

static void test_views_golden(void **state)
{
    (void)state;
    static const struct {
        int dx, dy;
        bool flip;
        float want[12];
    } cases[] = {
        {0, 0, false, {10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61}},
        {0, 0, true, {30, 31, 20, 21, 10, 11, 60, 61, 50, 51, 40, 41}},
        {1, 0, false, {20, 21, 30, 31, 0, 0, 50, 51, 60, 61, 0, 0}},
        {-1, 1, false, {0, 0, 40, 41, 50, 51, 0, 0, 0, 0, 0, 0}},
        {1, -1, true, {0, 0, 0, 0, 0, 0, 0, 0, 30, 31, 20, 21}},
    };
    struct dataset d;
    make(&d);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rng rng = find_view(cases[i].dx, cases[i].dy, cases[i].flip);
        float out[12];
        dataset_view(&d, 0, zero, unit, &(struct view_options){1, true}, &rng, out);
        check_pixels(out, cases[i].want);
    }
    dataset_release(&d);
}

/* What comes in from outside is the mean colour, that is 0 after normalisation. */
static void test_padding_is_mean(void **state)
{
    (void)state;
    struct dataset d;
    make(&d);
    const float mean[2] = {0.5f, 0.25f}, std[2] = {0.1f, 0.2f};
    struct rng rng = find_view(1, 0, false);
    float out[12];
    dataset_view(&d, 0, mean, std, &(struct view_options){1, true}, &rng, out);
    assert_true(out[4] == 0.0f && out[5] == 0.0f && out[10] == 0.0f && out[11] == 0.0f);
    assert_true(fabsf(out[0] - (20.0f / 255.0f - 0.5f) / 0.1f) < 1e-5f);
    assert_true(fabsf(out[1] - (21.0f / 255.0f - 0.25f) / 0.2f) < 1e-5f);
    dataset_release(&d);
}

static void test_always_three_draws(void **state)
{
    (void)state;
    static const struct view_options options[] = {{0, false}, {0, true}, {1, false}, {4, true}};
    struct dataset d;
    make(&d);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        struct rng rng, other;
        rng_init(&rng, 9, i);
        rng_init(&other, 9, i);
        float out[12];
        for (int view = 0; view < 50; view++)
            dataset_view(&d, 0, zero, unit, &options[i], &rng, out);
        for (int draw = 0; draw < 150; draw++)
            rng_u32(&other);
        assert_true(rng.position == other.position);
        assert_true(rng_u32(&rng) == rng_u32(&other));
    }
    dataset_release(&d);
}

static void test_no_options_is_the_image(void **state)
{
    (void)state;
    struct dataset d;
    make(&d);
    struct rng rng;
    rng_init(&rng, 3, 4);
    float image[12], view[12];
    dataset_image(&d, 0, zero, unit, image);
    for (int i = 0; i < 20; i++) {
        dataset_view(&d, 0, zero, unit, &(struct view_options){0, false}, &rng, view);
        assert_memory_equal(image, view, sizeof image);
    }
    dataset_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_views_golden),
        cmocka_unit_test(test_padding_is_mean),
        cmocka_unit_test(test_always_three_draws),
        cmocka_unit_test(test_no_options_is_the_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
