/*
 * test_arithmetic.c - what is coded is decoded, in as many bytes as its entropy says, and the bytes are those of the definition.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/m2kd/arithmetic.h"

enum { N = 100000 };

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* And little more, for learning how often there is a one. */
static void test_bits_cost_their_entropy(void **state)
{
    (void)state;
    static const uint32_t often[] = {2, 4, 50, 300};
    for (size_t k = 0; k < sizeof often / sizeof *often; k++) {
        struct arithmetic a;
        struct bit_model model = {0};
        uint32_t seed = 3;
        size_t bytes;
        void *coded;
        arithmetic_encoder(&a);
        for (int i = 0; i < N; i++)
            arithmetic_bit(&a, &model, draw(&seed) % often[k] == 0);
        assert_int_equal(arithmetic_finish(&a, &coded, &bytes), 0);
        double p = 1.0 / often[k], entropy = -N * (p * log2(p) + (1 - p) * log2(1 - p)) / 8;
        if ((double)bytes > 1.12 * entropy + 16 || (double)bytes < 0.9 * entropy)
            fail_msg("one in %u: %zu bytes, %g by entropy", often[k], bytes, entropy);
        arithmetic_decoder(&a, coded, bytes);
        memset(&model, 0, sizeof model);
        seed = 3;
        for (int i = 0; i < N; i++)
            assert_int_equal(arithmetic_bit(&a, &model, 9), draw(&seed) % often[k] == 0);
        assert_int_equal(arithmetic_end(&a), 0);
        free(coded);
    }
}

static int a_number(uint32_t *seed)
{
    int magnitude = (int)(draw(seed) % (1u << draw(seed) % NUMBER_LENGTHS));
    return draw(seed) % 2 ? magnitude : -magnitude;
}

/* Numbers of all lengths, with bits of no model between them. */
static void test_numbers_come_back(void **state)
{
    (void)state;
    static const int edges[] = {0, 1, -1, NUMBER_MAX, -NUMBER_MAX};
    struct arithmetic a;
    struct number_model model = {0};
    uint32_t seed = 5;
    size_t bytes;
    void *coded;
    arithmetic_encoder(&a);
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        assert_int_equal(arithmetic_number(&a, &model, edges[i]), edges[i]);
    for (int i = 0; i < N; i++) {
        int number = a_number(&seed);
        assert_int_equal(arithmetic_number(&a, &model, number), number);
        arithmetic_bit(&a, NULL, (unsigned)i & 1);
    }
    assert_int_equal(arithmetic_finish(&a, &coded, &bytes), 0);
    arithmetic_decoder(&a, coded, bytes);
    memset(&model, 0, sizeof model);
    seed = 5;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        assert_int_equal(arithmetic_number(&a, &model, 0), edges[i]);
    for (int i = 0; i < N; i++) {
        assert_int_equal(arithmetic_number(&a, &model, 0), a_number(&seed));
        assert_int_equal(arithmetic_bit(&a, NULL, 0), i & 1);
    }
    assert_int_equal(arithmetic_end(&a), 0);
    free(coded);
}

/* Worked out from SNAPSHOT_FORMAT.md by other means. */
static void test_the_very_bytes(void **state)
{
    (void)state;
    static const int numbers[] = {3, 0, -1, 7, 7, 7, 7, 7, -200, 15, 0, 0, 0, 0, 12345, -32767};
    static const uint8_t want[] = {0x2f, 0x39, 0x50, 0xf4, 0x9f, 0x31, 0xc9, 0x3b, 0xf5,
                                   0x5f, 0x35, 0x3c, 0x19, 0x49, 0xd8, 0x00, 0x00, 0x00};
    struct arithmetic a;
    struct number_model model = {0};
    size_t bytes;
    void *coded;
    arithmetic_encoder(&a);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        arithmetic_number(&a, &model, numbers[i]);
    assert_int_equal(arithmetic_finish(&a, &coded, &bytes), 0);
    assert_int_equal(bytes, sizeof want);
    assert_memory_equal(coded, want, sizeof want);
    free(coded);
}

/* The decoder reads zeros beyond the end, and says so. */
static void test_cut_and_longer(void **state)
{
    (void)state;
    struct arithmetic a;
    struct number_model model = {0};
    size_t bytes;
    void *coded;
    arithmetic_encoder(&a);
    for (int i = 0; i < 1000; i++)
        arithmetic_number(&a, &model, i % 300);
    assert_int_equal(arithmetic_finish(&a, &coded, &bytes), 0);
    for (size_t size = 0; size <= bytes; size += bytes / 10) {
        memset(&model, 0, sizeof model);
        arithmetic_decoder(&a, coded, size);
        for (int i = 0; i < 1000; i++)
            arithmetic_number(&a, &model, 0);
        assert_int_equal(arithmetic_end(&a), size == bytes ? 0 : ERR_FORMAT);
    }
    free(coded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_cost_their_entropy),
        cmocka_unit_test(test_numbers_come_back),
        cmocka_unit_test(test_the_very_bytes),
        cmocka_unit_test(test_cut_and_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
