/*
 * jpeg.c - JPEG to pixels by libjpeg-turbo.
 *
 * A warning of the library (data missing, corrupt code, junk between markers) ends the decoding:
 * the library would go on with grey. The number of scans is bounded by a progress monitor, for a
 * progressive file of a few kilobytes can ask for minutes of work, and the library's own memory by
 * max_memory_to_use.
 */
#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "server/decode/codec.h"

/* Coefficients of a progressive image of 25 megapixels in 3 components: 150 MB. */
static const long library_bytes = 170l << 20;

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    enum image_verdict verdict; /* why, when it failed */
    uint8_t *pixels;
    uint8_t *cmyk_row; /* NULL unless the file is CMYK */
};

static void on_error(j_common_ptr common)
{
    struct decoder *d = common->client_data;
    int code = common->err->msg_code;
    if (code == JERR_OUT_OF_MEMORY)
        d->verdict = IMAGE_NO_MEMORY;
    else if (code == JERR_NO_BACKING_STORE || code == JERR_IMAGE_TOO_BIG)
        d->verdict = IMAGE_TOO_LARGE;
    else
        d->verdict = IMAGE_DAMAGED;
    longjmp(d->failed, 1);
}

static void on_message(j_common_ptr common, int level)
{
    if (level < 0) /* a warning: corrupt data; the rest are traces */
        on_error(common);
}

static void on_output(j_common_ptr common)
{
    (void)common; /* nothing is printed */
}

static void on_progress(j_common_ptr common)
{
    struct decoder *d = common->client_data;
    if (d->jpeg.input_scan_number > IMAGE_MAX_SCANS) {
        d->verdict = IMAGE_TOO_LARGE;
        longjmp(d->failed, 1);
    }
}

static void fail(struct decoder *d, enum image_verdict verdict)
{
    d->verdict = verdict;
    longjmp(d->failed, 1);
}

/* CMYK to RGB without a profile; Adobe's files hold the inks inverted. */
static void cmyk_to_rgb(const uint8_t *cmyk, int width, int inverted, uint8_t *rgb)
{
    for (int x = 0; x < width; x++) {
        int k = inverted ? cmyk[4 * x + 3] : 255 - cmyk[4 * x + 3];
        for (int c = 0; c < 3; c++) {
            int light = inverted ? cmyk[4 * x + c] : 255 - cmyk[4 * x + c];
            rgb[3 * x + c] = (uint8_t)((light * k + 127) / 255);
        }
    }
}

static void choose_output(struct jpeg_decompress_struct *jpeg)
{
    switch (jpeg->jpeg_color_space) {
    case JCS_GRAYSCALE:
        jpeg->out_color_space = JCS_GRAYSCALE;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        jpeg->out_color_space = JCS_CMYK;
        break;
    default: /* the library's enum, not ours: the rest are three-colour spaces or refused by it */
        jpeg->out_color_space = JCS_RGB;
        break;
    }
}

/* Everything that may jump. */
static void decode(struct decoder *d, const uint8_t *data, size_t size_bytes, struct image *out)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &d->progress;
    jpeg->mem->max_memory_to_use = library_bytes;
    jpeg_mem_src(jpeg, data, size_bytes);
    jpeg_read_header(jpeg, TRUE);
    enum image_verdict v = image_check_size(jpeg->image_width, jpeg->image_height);
    if (v != IMAGE_OK)
        fail(d, v);
    choose_output(jpeg);
    jpeg_start_decompress(jpeg);
    int channels = jpeg->out_color_space == JCS_GRAYSCALE ? 1 : 3;
    size_t row_bytes = (size_t)jpeg->output_width * (size_t)channels;
    d->pixels = malloc(row_bytes * jpeg->output_height);
    if (jpeg->out_color_space == JCS_CMYK)
        d->cmyk_row = malloc((size_t)jpeg->output_width * 4);
    if (!d->pixels || (jpeg->out_color_space == JCS_CMYK && !d->cmyk_row))
        fail(d, IMAGE_NO_MEMORY);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *row = d->pixels + row_bytes * jpeg->output_scanline;
        JSAMPROW target = d->cmyk_row ? d->cmyk_row : row;
        if (jpeg_read_scanlines(jpeg, &target, 1) != 1)
            fail(d, IMAGE_DAMAGED);
        if (d->cmyk_row)
            cmyk_to_rgb(d->cmyk_row, (int)jpeg->output_width, jpeg->saw_Adobe_marker, row);
    }
    jpeg_finish_decompress(jpeg);
    *out = (struct image){(int)jpeg->output_width, (int)jpeg->output_height, channels, d->pixels};
}

enum image_verdict jpeg_decode(struct image *out, const uint8_t *data, size_t size_bytes)
{
    struct decoder *d = calloc(1, sizeof *d);
    if (!d)
        return IMAGE_NO_MEMORY;
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->jpeg.client_data = d;
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->errors.output_message = on_output;
    d->progress.progress_monitor = on_progress;
    if (setjmp(d->failed) == 0) {
        decode(d, data, size_bytes, out);
        d->verdict = IMAGE_OK;
    } else {
        free(d->pixels);
    }
    enum image_verdict verdict = d->verdict;
    jpeg_destroy_decompress(&d->jpeg);
    free(d->cmyk_row);
    free(d);
    return verdict;
}
