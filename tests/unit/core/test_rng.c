/* Random streams: known answers, jumping equals drawing, unbiased ranges, the normal's shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "core/nn/rng.h"

/* Random123's kat_vectors for philox4x32-10, those whose block number a position can reach. */
static void philox_known_answers(void **state)
{
    static const struct {
        struct rng start;
        uint32_t draws[4];
    } vectors[] = {
        {{0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{UINT64_C(0x299f31d0a4093822), UINT64_C(0x85a308d3243f6a88),
          UINT64_C(0x0370734413198a2e) * 4},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    (void)state;

    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++) {
        struct rng r = vectors[v].start;
        for (int i = 0; i < 4; i++)
            assert_int_equal(rng_u32(&r), vectors[v].draws[i]);
        assert_int_equal(r.position, vectors[v].start.position + 4);
    }
}

static void any_position_is_reached_at_once(void **state)
{
    struct rng walk;
    (void)state;

    rng_init(&walk, 7, 3);
    for (uint64_t at = 0; at < 41; at++) {
        struct rng jump = {.seed = 7, .stream = 3, .position = at};
        assert_int_equal(rng_u32(&walk), rng_u32(&jump));
    }
}

static void seeds_and_streams_differ(void **state)
{
    struct rng a, b, c;
    int same = 0;
    (void)state;

    rng_init(&a, 1, 0);
    rng_init(&b, 1, 1);
    rng_init(&c, 2, 0);
    for (int i = 0; i < 100; i++) {
        uint32_t x = rng_u32(&a), y = rng_u32(&b), z = rng_u32(&c);
        same += (x == y) + (x == z) + (y == z);
    }
    assert_int_equal(same, 0);
}

/* Of 3 * 2^30 values, plain modulo or plain multiply-shift would draw a third of them twice as
 * often: halves of the range then differ by tens of sigmas. */
static void below_has_no_bias(void **state)
{
    enum { DRAWS = 120000, BINS = 6 };
    const uint32_t bound = UINT32_C(3) << 30;
    int bins[BINS] = {0}, small[BINS] = {0}, residues[3] = {0};
    struct rng r;
    (void)state;

    rng_init(&r, 11, 0);
    for (int i = 0; i < DRAWS; i++) {
        uint32_t x = rng_below(&r, bound), y = rng_below(&r, BINS);
        assert_true(x < bound);
        assert_true(y < BINS);
        bins[x / (bound / BINS)]++;
        residues[x % 3]++;
        small[y]++;
    }
    for (int i = 0; i < BINS; i++) { /* sigma is 129 */
        assert_in_range(bins[i], DRAWS / BINS - 650, DRAWS / BINS + 650);
        assert_in_range(small[i], DRAWS / BINS - 650, DRAWS / BINS + 650);
    }
    for (int i = 0; i < 3; i++) /* sigma is 163 */
        assert_in_range(residues[i], DRAWS / 3 - 820, DRAWS / 3 + 820);
    assert_int_equal(rng_below(&r, 1), 0);
}

static void uniform_and_normal_have_their_moments(void **state)
{
    enum { DRAWS = 100000 };
    double u_sum = 0, n_sum = 0, n_squares = 0, n_fourth = 0;
    struct rng r;
    (void)state;

    rng_init(&r, 5, 9);
    for (int i = 0; i < DRAWS; i++) {
        float u = rng_uniform(&r);
        assert_true(u >= 0.0f && u < 1.0f);
        u_sum += u;
        double n = rng_normal(&r);
        assert_true(isfinite(n));
        n_sum += n;
        n_squares += n * n;
        n_fourth += n * n * n * n;
    }
    assert_true(fabs(u_sum / DRAWS - 0.5) < 0.005);
    assert_true(fabs(n_sum / DRAWS) < 0.016);
    assert_true(fabs(n_squares / DRAWS - 1.0) < 0.023);
    assert_true(fabs(n_fourth / DRAWS - 3.0) < 0.16);
    assert_int_equal(r.position, 3 * DRAWS);
}

static void shuffle_reaches_every_order_equally(void **state)
{
    enum { ROUNDS = 24000 };
    int seen[4][4][4] = {0};
    struct rng r;
    (void)state;

    rng_init(&r, 3, 1);
    for (int i = 0; i < ROUNDS; i++) {
        int index[4] = {0, 1, 2, 3};
        rng_shuffle(&r, index, 4);
        assert_int_equal(1 << index[0] | 1 << index[1] | 1 << index[2] | 1 << index[3], 15);
        seen[index[0]][index[1]][index[2]]++;
    }
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++)
            for (int c = 0; c < 4; c++) {
                if (a == b || b == c || a == c)
                    continue;
                assert_in_range(seen[a][b][c], 1000 - 160, 1000 + 160); /* five sigmas */
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(any_position_is_reached_at_once),
        cmocka_unit_test(seeds_and_streams_differ),
        cmocka_unit_test(below_has_no_bias),
        cmocka_unit_test(uniform_and_normal_have_their_moments),
        cmocka_unit_test(shuffle_reaches_every_order_equally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
