/*
 * test_image.c - decoding of good and of hostile images, and resizing against values worked out by
 * hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/decode/image.h"
#include "tests/unit/server/samples.h"

static struct image decoded(struct sample s)
{
    struct image img = {0};
    assert_int_equal(image_decode(&img, s.data, s.size_bytes), IMAGE_OK);
    free(s.data);
    return img;
}

static void assert_pixels(struct image *img, int width, int height, int channels,
                          const uint8_t *expected)
{
    assert_int_equal(img->width, width);
    assert_int_equal(img->height, height);
    assert_int_equal(img->channels, channels);
    assert_memory_equal(img->pixels, expected, (size_t)(width * height * channels));
    image_release(img);
}

/* ---- PNG ---- */

static void png_grey_and_rgb_keep_every_pixel(void **state)
{
    (void)state;
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        for (int channels = 1; channels <= 3; channels += 2) {
            uint8_t *pixels = gradient(13, 7, channels, 1);
            int colour = channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB;
            struct image img = decoded(
                png_sample(13, 7, (struct png_options){colour, 8, interlaced}, pixels));
            assert_pixels(&img, 13, 7, channels, pixels);
            free(pixels);
        }
    }
}

static void png_one_pixel_and_one_bit(void **state)
{
    (void)state;
    const uint8_t on[1] = {0x80}, white[1] = {255};
    struct image img = decoded(
        png_sample(1, 1, (struct png_options){PNG_COLOR_TYPE_GRAY, 1, 0}, on));
    assert_pixels(&img, 1, 1, 1, white);
}

static void png_palette_becomes_colour_on_white(void **state)
{
    (void)state;
    const uint8_t indices[3] = {0, 1, 200}; /* entry 0 is see-through */
    const uint8_t expected[9] = {255, 255, 255, 1, 2, 254, 200, 144, 55};
    struct image img = decoded(
        png_sample(3, 1, (struct png_options){PNG_COLOR_TYPE_PALETTE, 8, 0}, indices));
    assert_pixels(&img, 3, 1, 3, expected);
}

static void png_sixteen_bits_are_scaled(void **state)
{
    (void)state;
    const uint8_t rows[6] = {0, 255, 0x80, 0x80, 0xff, 0xff}; /* 255 of 65535 is 1 of 255 */
    const uint8_t expected[3] = {1, 0x80, 0xff};
    struct image img = decoded(
        png_sample(3, 1, (struct png_options){PNG_COLOR_TYPE_GRAY, 16, 0}, rows));
    assert_pixels(&img, 3, 1, 1, expected);
}

static void png_alpha_is_laid_on_white(void **state)
{
    (void)state;
    const uint8_t rgba[12] = {10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 51};
    const uint8_t on_white[9] = {10, 20, 30, 255, 255, 255, 204, 224, 244};
    struct image img = decoded(
        png_sample(3, 1, (struct png_options){PNG_COLOR_TYPE_RGBA, 8, 0}, rgba));
    assert_pixels(&img, 3, 1, 3, on_white);
    const uint8_t grey_alpha[4] = {7, 255, 7, 0}, grey[2] = {7, 255};
    img = decoded(
        png_sample(2, 1, (struct png_options){PNG_COLOR_TYPE_GRAY_ALPHA, 8, 0}, grey_alpha));
    assert_pixels(&img, 2, 1, 1, grey);
}

/* ---- JPEG ---- */

static void assert_near(const struct image *img, const uint8_t *expected, int tolerance)
{
    for (int i = 0; i < img->width * img->height * img->channels; i++)
        assert_in_range(abs(img->pixels[i] - expected[i]), 0, tolerance);
}

static void jpeg_grey_and_colour_come_close(void **state)
{
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        uint8_t flat[3 * 64];
        for (int i = 0; i < 64; i++)
            memcpy(flat + 3 * i, (uint8_t[]){200, 90, 30}, 3);
        struct image img = decoded(
            jpeg_sample(8, 8, (struct jpeg_options){JCS_RGB, progressive, 0}, flat));
        assert_int_equal(img.channels, 3);
        assert_near(&img, flat, 3);
        image_release(&img);
        uint8_t *grey = gradient(17, 9, 1, 0);
        img = decoded(
            jpeg_sample(17, 9, (struct jpeg_options){JCS_GRAYSCALE, progressive, 0}, grey));
        assert_int_equal(img.width, 17);
        assert_int_equal(img.height, 9);
        assert_int_equal(img.channels, 1);
        assert_near(&img, grey, 12);
        image_release(&img);
        free(grey);
    }
}

static void jpeg_cmyk_becomes_rgb(void **state)
{
    (void)state;
    uint8_t flat[4 * 64], expected[3 * 64];
    for (int i = 0; i < 64; i++) { /* libjpeg writes an Adobe marker, so these are inverted inks */
        memcpy(flat + 4 * i, (uint8_t[]){255, 128, 0, 255}, 4);
        memcpy(expected + 3 * i, (uint8_t[]){255, 128, 0}, 3);
    }
    struct image img = decoded(jpeg_sample(8, 8, (struct jpeg_options){JCS_CMYK, 0, 0}, flat));
    assert_int_equal(img.channels, 3);
    assert_near(&img, expected, 3);
    image_release(&img);
}

/* ---- hostile ---- */

static enum image_verdict verdict(const void *data, size_t bytes)
{
    struct image img = {0};
    /* A copy of exactly that size, so that the sanitizer sees a read beyond it. */
    uint8_t *copy = malloc(bytes + (bytes == 0));
    memcpy(copy, data, bytes);
    enum image_verdict v = image_decode(&img, copy, bytes);
    free(copy);
    assert_true(v == IMAGE_OK || img.pixels == NULL);
    image_release(&img);
    return v;
}

static void cut_at_every_byte(struct sample s)
{
    assert_int_equal(verdict(s.data, s.size_bytes), IMAGE_OK);
    for (size_t bytes = 0; bytes < s.size_bytes; bytes++) {
        enum image_verdict v = verdict(s.data, bytes),
                           expected = bytes == 0 ? IMAGE_EMPTY : IMAGE_DAMAGED;
        if (v == IMAGE_UNKNOWN_FORMAT)
            assert_true(bytes < 8);
        else
            assert_int_equal(v, expected);
    }
    free(s.data);
}

static void truncated_images_are_refused(void **state)
{
    (void)state;
    uint8_t *pixels = gradient(24, 24, 3, 3);
    cut_at_every_byte(png_sample(24, 24, (struct png_options){PNG_COLOR_TYPE_RGB, 8, 0}, pixels));
    cut_at_every_byte(png_sample(24, 24, (struct png_options){PNG_COLOR_TYPE_RGB, 8, 1}, pixels));
    cut_at_every_byte(jpeg_sample(24, 24, (struct jpeg_options){JCS_RGB, 0, 0}, pixels));
    cut_at_every_byte(jpeg_sample(24, 24, (struct jpeg_options){JCS_RGB, 1, 0}, pixels));
    free(pixels);
}

static void every_flipped_byte_of_a_png_is_seen(void **state)
{
    (void)state;
    struct sample s = grey_png(20, 20, 4);
    for (size_t i = 0; i < s.size_bytes; i++) {
        s.data[i] ^= 0x55;
        assert_int_not_equal(verdict(s.data, s.size_bytes), IMAGE_OK);
        s.data[i] ^= 0x55;
    }
    assert_int_equal(verdict(s.data, s.size_bytes), IMAGE_OK);
    free(s.data);
}

static void put_u32be(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void png_header_over_the_limits(void **state)
{
    (void)state;
    struct sample s = grey_png(20, 20, 4);
    static const uint32_t sizes[][2] = {
        {16385, 1}, {1, 16385}, {5001, 5000}, {0xffffffff, 0xffffffff}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_u32be(s.data + 16, sizes[i][0]);
        put_u32be(s.data + 20, sizes[i][1]);
        assert_int_equal(verdict(s.data, s.size_bytes), IMAGE_TOO_LARGE);
    }
    put_u32be(s.data + 16, 0);
    assert_int_equal(verdict(s.data, s.size_bytes), IMAGE_DAMAGED);
    free(s.data);
}

/* Where the frame header's height field stands. */
static uint8_t *jpeg_size_field(struct sample s)
{
    for (size_t i = 2; i + 9 < s.size_bytes;
         i += 2 + (size_t)(s.data[i + 2] << 8 | s.data[i + 3])) {
        if (s.data[i + 1] == 0xc0 || s.data[i + 1] == 0xc2)
            return s.data + i + 5;
    }
    fail_msg("no frame header");
    return NULL;
}

static void jpeg_header_over_the_limits_or_lying(void **state)
{
    (void)state;
    uint8_t *pixels = gradient(16, 16, 3, 0);
    struct sample s = jpeg_sample(16, 16, (struct jpeg_options){JCS_RGB, 0, 0}, pixels);
    uint8_t *size = jpeg_size_field(s);
    memcpy(size, (uint8_t[]){0xff, 0xff, 0xff, 0xff}, 4);
    assert_int_equal(verdict(s.data, s.size_bytes), IMAGE_TOO_LARGE);
    memcpy(size, (uint8_t[]){0x10, 0x00, 0x10, 0x00}, 4); /* 4096 x 4096 with the data of 16 x 16 */
    assert_int_equal(verdict(s.data, s.size_bytes), IMAGE_DAMAGED);
    memcpy(size, (uint8_t[]){0, 0, 0, 16}, 4);
    assert_int_equal(verdict(s.data, s.size_bytes), IMAGE_DAMAGED);
    free(s.data);
    free(pixels);
}

static void jpeg_of_too_many_scans_is_refused(void **state)
{
    (void)state;
    uint8_t *pixels = gradient(16, 16, 1, 0);
    for (int scans = IMAGE_MAX_SCANS; scans <= IMAGE_MAX_SCANS + 1; scans++) {
        struct sample s = jpeg_sample(16, 16, (struct jpeg_options){JCS_GRAYSCALE, 1, scans},
                                      pixels);
        assert_int_equal(verdict(s.data, s.size_bytes),
                         scans > IMAGE_MAX_SCANS ? IMAGE_TOO_LARGE : IMAGE_OK);
        free(s.data);
    }
    free(pixels);
}

static void other_formats_are_unknown(void **state)
{
    (void)state;
    assert_int_equal(verdict("", 0), IMAGE_EMPTY);
    assert_int_equal(verdict("GIF89a\1\0\1\0", 10), IMAGE_UNKNOWN_FORMAT);
    assert_int_equal(verdict("hello, this is a text", 21), IMAGE_UNKNOWN_FORMAT);
    assert_int_equal(verdict("\xff\xd8", 2), IMAGE_UNKNOWN_FORMAT);
    assert_int_equal(verdict("\xff\xd8\xff", 3), IMAGE_DAMAGED);
    assert_int_equal(verdict("\x89PNG\r\n\x1a\n", 8), IMAGE_DAMAGED);
}

/* An iCCP chunk of rubbish with a right CRC: a profile is not ours to judge, so it does not
 * matter. */
static void png_metadata_is_not_read(void **state)
{
    (void)state;
    struct sample s = grey_png(4, 4, 0);
    static const uint8_t chunk[] = {0, 0, 0, 4, 'i', 'C', 'C', 'P', 1, 2, 3, 4};
    uint32_t crc = 0xffffffff;
    for (size_t i = 4; i < sizeof chunk; i++) {
        crc ^= chunk[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    uint8_t *with = malloc(s.size_bytes + sizeof chunk + 4);
    memcpy(with, s.data, 33);
    memcpy(with + 33, chunk, sizeof chunk);
    put_u32be(with + 33 + sizeof chunk, ~crc);
    memcpy(with + 37 + sizeof chunk, s.data + 33, s.size_bytes - 33);
    assert_int_equal(verdict(with, s.size_bytes + sizeof chunk + 4), IMAGE_OK);
    with[33 + sizeof chunk] ^= 1; /* but its CRC must be right */
    assert_int_equal(verdict(with, s.size_bytes + sizeof chunk + 4), IMAGE_DAMAGED);
    free(with);
    free(s.data);
}

/* ---- resizing ---- */

static void fit_same_size_is_a_copy(void **state)
{
    (void)state;
    uint8_t *pixels = gradient(5, 4, 3, 0), out[60];
    struct image img = {5, 4, 3, pixels};
    assert_int_equal(image_fit(&img, 4, 5, 3, out), 0);
    assert_memory_equal(out, pixels, 60);
    free(pixels);
}

static void fit_halves_by_area(void **state)
{
    (void)state;
    uint8_t pixels[16] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 255},
            out[4];
    struct image img = {4, 4, 1, pixels};
    assert_int_equal(image_fit(&img, 2, 2, 1, out), 0);
    /* (0+10+40+50)/4, (20+30+60+70)/4, (80+90+120+130)/4, (100+110+140+255)/4 = 151.25 */
    assert_memory_equal(out, ((uint8_t[]){25, 45, 105, 151}), 4);
}

static void fit_shrinks_by_parts_of_pixels(void **state)
{
    (void)state;
    uint8_t pixels[3] = {0, 90, 240}, out[2];
    struct image img = {3, 1, 1, pixels};
    assert_int_equal(image_fit(&img, 1, 2, 1, out), 0);
    /* each covers 1.5 pixels: (0 + 90/2)/1.5, (90/2 + 240)/1.5 */
    assert_memory_equal(out, ((uint8_t[]){30, 190}), 2);
}

static void fit_doubles_bilinearly(void **state)
{
    (void)state;
    uint8_t pixels[2] = {0, 100}, out[4];
    struct image img = {2, 1, 1, pixels};
    assert_int_equal(image_fit(&img, 1, 4, 1, out), 0);
    assert_memory_equal(out, ((uint8_t[]){0, 25, 75, 100}),
                        4); /* centres at -0.25, 0.25, 0.75, 1.25 */
}

static void fit_axes_are_independent(void **state)
{
    (void)state;
    uint8_t pixels[4] = {0, 50, 100, 250}, out[4]; /* 4 wide, 1 high -> 2 wide, 2 high */
    struct image img = {4, 1, 1, pixels};
    assert_int_equal(image_fit(&img, 2, 2, 1, out), 0);
    assert_memory_equal(out, ((uint8_t[]){25, 175, 25, 175}), 4);
}

static void fit_changes_channels(void **state)
{
    (void)state;
    uint8_t colour[6] = {255, 0, 0, 10, 200, 30}, grey[2], back[6];
    struct image img = {2, 1, 3, colour};
    assert_int_equal(image_fit(&img, 1, 2, 1, grey), 0);
    assert_memory_equal(grey, ((uint8_t[]){76, 124}), 2); /* 76.245; 2.99 + 117.4 + 3.42 = 123.81 */
    struct image one = {2, 1, 1, grey};
    assert_int_equal(image_fit(&one, 1, 2, 3, back), 0);
    assert_memory_equal(back, ((uint8_t[]){76, 76, 76, 124, 124, 124}), 6);
}

static void fit_keeps_flat_pictures_flat(void **state)
{
    (void)state;
    for (int from = 1; from <= 40; from += 3) {
        uint8_t *pixels = malloc((size_t)(from * from));
        memset(pixels, 255, (size_t)(from * from));
        struct image img = {from, from, 1, pixels};
        for (int to = 1; to <= 40; to++) {
            uint8_t out[1600];
            assert_int_equal(image_fit(&img, to, to, 1, out), 0);
            for (int i = 0; i < to * to; i++)
                assert_int_equal(out[i], 255);
        }
        free(pixels);
    }
}

static void fit_refuses_nonsense(void **state)
{
    (void)state;
    uint8_t pixel = 1, out[4];
    struct image img = {1, 1, 1, &pixel};
    assert_int_equal(image_fit(&img, 0, 1, 1, out), ERR_INVALID);
    assert_int_equal(image_fit(&img, 1, 1, 2, out), ERR_INVALID);
}

static void raw_images_of_a_pack(void **state)
{
    (void)state;
    const uint8_t pixels[6] = {1, 2, 3, 4, 5, 6};
    struct pack_image stored = {.encoding = PACK_RAW,
                                .width = 3,
                                .height = 2,
                                .channels = 1,
                                .data = pixels,
                                .size_bytes = 6};
    struct image img;
    assert_int_equal(image_from_pack(&img, &stored), IMAGE_OK);
    assert_pixels(&img, 3, 2, 1, pixels);
    struct sample s = grey_png(6, 5, 2);
    stored = (struct pack_image){.encoding = PACK_PNG, .data = s.data, .size_bytes = s.size_bytes};
    assert_int_equal(image_from_pack(&img, &stored), IMAGE_OK);
    assert_int_equal(img.width, 6);
    image_release(&img);
    free(s.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_grey_and_rgb_keep_every_pixel),
        cmocka_unit_test(png_one_pixel_and_one_bit),
        cmocka_unit_test(png_palette_becomes_colour_on_white),
        cmocka_unit_test(png_sixteen_bits_are_scaled),
        cmocka_unit_test(png_alpha_is_laid_on_white),
        cmocka_unit_test(jpeg_grey_and_colour_come_close),
        cmocka_unit_test(jpeg_cmyk_becomes_rgb),
        cmocka_unit_test(truncated_images_are_refused),
        cmocka_unit_test(every_flipped_byte_of_a_png_is_seen),
        cmocka_unit_test(png_header_over_the_limits),
        cmocka_unit_test(jpeg_header_over_the_limits_or_lying),
        cmocka_unit_test(jpeg_of_too_many_scans_is_refused),
        cmocka_unit_test(other_formats_are_unknown),
        cmocka_unit_test(png_metadata_is_not_read),
        cmocka_unit_test(fit_same_size_is_a_copy),
        cmocka_unit_test(fit_halves_by_area),
        cmocka_unit_test(fit_shrinks_by_parts_of_pixels),
        cmocka_unit_test(fit_doubles_bilinearly),
        cmocka_unit_test(fit_axes_are_independent),
        cmocka_unit_test(fit_changes_channels),
        cmocka_unit_test(fit_keeps_flat_pictures_flat),
        cmocka_unit_test(fit_refuses_nonsense),
        cmocka_unit_test(raw_images_of_a_pack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
