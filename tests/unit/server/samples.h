/*
 * samples.h - encoded images for the tests of decoding, made by the libraries' own encoders.
 *
 * Every buffer is from malloc and the caller's to free. Failing to encode is a broken test: assert.
 */
#ifndef ACCRETED_TESTS_UNIT_SERVER_SAMPLES_H
#define ACCRETED_TESTS_UNIT_SERVER_SAMPLES_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

struct sample {
    uint8_t *data;
    size_t size_bytes;
};

struct png_options {
    int colour; /* PNG_COLOR_TYPE_* */
    int depth;
    int interlaced;
};

static inline void sample_append(png_structp png, png_bytep data, size_t bytes)
{
    struct sample *s = png_get_io_ptr(png);
    s->data = realloc(s->data, s->size_bytes + bytes);
    assert(s->data);
    memcpy(s->data + s->size_bytes, data, bytes);
    s->size_bytes += bytes;
}

static inline void sample_no_flush(png_structp png)
{
    (void)png;
}

/* `rows`: packed rows as PNG wants them. Palette images get colour i = (i, 2i, 255-i), entry 0
 * see-through. */
static inline struct sample png_sample(int width, int height, struct png_options o,
                                       const uint8_t *rows)
{
    struct sample s = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert(png && info);
    png_set_write_fn(png, &s, sample_append, sample_no_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, o.depth, o.colour,
                 o.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (o.colour == PNG_COLOR_TYPE_PALETTE) {
        png_color palette[256];
        png_byte clear[1] = {0};
        for (int i = 0; i < 256; i++)
            palette[i] = (png_color){(png_byte)i, (png_byte)(2 * i), (png_byte)(255 - i)};
        png_set_PLTE(png, info, palette, 1 << o.depth);
        png_set_tRNS(png, info, clear, 1, NULL);
    }
    png_write_info(png, info);
    size_t row_bytes = png_get_rowbytes(png, info);
    png_bytep *lines = malloc((size_t)height * sizeof *lines);
    assert(lines);
    for (int y = 0; y < height; y++)
        lines[y] = (png_bytep)(uintptr_t)(rows + (size_t)y * row_bytes);
    png_write_image(png, lines);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(lines);
    return s;
}

struct jpeg_options {
    J_COLOR_SPACE space; /* of `pixels`: JCS_GRAYSCALE, JCS_RGB, JCS_CMYK */
    int progressive;
    int scans; /* of a progressive grey image, up to 190; 0 = the library's own choice */
};

enum { MAX_SCANS = 190 };

/* The DC, then each AC coefficient alone in three steps of precision: all legal, and as many as
 * wanted. */
static inline void fill_scans(jpeg_scan_info scans[MAX_SCANS], int count)
{
    static const int steps[3][2] = {{0, 2}, {2, 1}, {1, 0}};
    scans[0] = (jpeg_scan_info){.comps_in_scan = 1};
    for (int i = 1; i < count; i++) {
        int coefficient = 1 + (i - 1) / 3;
        const int *step = steps[(i - 1) % 3];
        scans[i] = (jpeg_scan_info){1, {0}, coefficient, coefficient, step[0], step[1]};
    }
}

static inline struct sample jpeg_sample(int width, int height, struct jpeg_options o,
                                        const uint8_t *pixels)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long bytes = 0;
    int channels = o.space == JCS_GRAYSCALE ? 1 : o.space == JCS_CMYK ? 4 : 3;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &bytes);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = channels;
    jpeg.in_color_space = o.space;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 95, TRUE);
    jpeg_scan_info scans[MAX_SCANS];
    if (o.progressive)
        jpeg_simple_progression(&jpeg);
    if (o.scans > 0) {
        fill_scans(scans, o.scans);
        jpeg.scan_info = scans;
        jpeg.num_scans = o.scans;
    }
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)jpeg.next_scanline *
                                                          (size_t)(width * channels));
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return (struct sample){data, bytes};
}

/* A smooth picture that survives JPEG, different for each `seed`. */
static inline uint8_t *gradient(int width, int height, int channels, int seed)
{
    uint8_t *pixels = malloc((size_t)(width * height * channels));
    assert(pixels);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                pixels[(y * width + x) * channels + c] =
                    (uint8_t)((x * 5 + y * 3 + c * 40 + seed * 11) % 200 + 20);
    return pixels;
}

/* A grey PNG, different for each `seed`. */
static inline struct sample grey_png(int width, int height, int seed)
{
    uint8_t *pixels = gradient(width, height, 1, seed);
    struct sample s = png_sample(width, height, (struct png_options){PNG_COLOR_TYPE_GRAY, 8, 0},
                                 pixels);
    free(pixels);
    return s;
}

#endif
