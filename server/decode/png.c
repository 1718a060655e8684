/*
 * png.c - PNG to pixels by libpng's classic interface.
 *
 * Only the chunks that make pixels are parsed (IHDR, PLTE, tRNS, IDAT, IEND); the others are
 * skipped by their length and CRC, so that no profile or text of a stranger is ever expanded. A
 * wrong CRC anywhere and every warning end the decoding.
 */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "server/decode/codec.h"

struct decoder {
    png_structp png;
    png_infop info;
    const uint8_t *at, *end;
    jmp_buf failed;
    enum image_verdict verdict; /* why, when it failed */
    uint8_t *pixels;
    uint8_t **rows;
};

static void fail(struct decoder *d, enum image_verdict verdict)
{
    d->verdict = verdict;
    longjmp(d->failed, 1);
}

static void on_error(png_structp png, png_const_charp message)
{
    (void)message;
    fail(png_get_error_ptr(png), IMAGE_DAMAGED);
}

static void on_read(png_structp png, png_bytep to, size_t bytes)
{
    struct decoder *d = png_get_io_ptr(png);
    if (bytes > (size_t)(d->end - d->at))
        fail(d, IMAGE_DAMAGED);
    memcpy(to, d->at, bytes);
    d->at += bytes;
}

/* Skips the ancillary chunks libpng would otherwise expand. */
static void ignore_metadata(png_structp png)
{
    static const png_byte skipped[] = "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0"
                                      "sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTXt\0eXIf";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, sizeof skipped / 5);
}

/* Asks for 8 bits, 1 or 3 channels, and alpha where there is any; returns the channels of a row. */
static int choose_output(struct decoder *d)
{
    int colour = png_get_color_type(d->png, d->info);
    png_set_scale_16(d->png);
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(d->png);
    if (colour == PNG_COLOR_TYPE_GRAY)
        png_set_expand_gray_1_2_4_to_8(d->png);
    if (png_get_valid(d->png, d->info, PNG_INFO_tRNS))
        png_set_tRNS_to_alpha(d->png);
    png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    return png_get_channels(d->png, d->info);
}

/* Lays `count` pixels of `colours` channels and alpha on white, in place. */
static void drop_alpha(uint8_t *pixels, size_t count, int colours)
{
    const uint8_t *from = pixels;
    uint8_t *to = pixels;
    for (size_t i = 0; i < count; i++) {
        int alpha = from[colours];
        for (int c = 0; c < colours; c++)
            to[c] = (uint8_t)((from[c] * alpha + 255 * (255 - alpha) + 127) / 255);
        from += colours + 1;
        to += colours;
    }
}

/* Everything that may jump. */
static void decode(struct decoder *d, struct image *out)
{
    d->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, on_error, on_error);
    d->info = d->png ? png_create_info_struct(d->png) : NULL;
    if (!d->info)
        fail(d, IMAGE_NO_MEMORY);
    png_set_read_fn(d->png, d, on_read);
    png_set_user_limits(d->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_set_crc_action(d->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    ignore_metadata(d->png);
    png_read_info(d->png, d->info);
    size_t width = png_get_image_width(d->png, d->info);
    size_t height = png_get_image_height(d->png, d->info);
    enum image_verdict v = image_check_size(width, height);
    if (v != IMAGE_OK)
        fail(d, v);
    int channels = choose_output(d);
    size_t row_bytes = width * (size_t)channels;
    if (png_get_rowbytes(d->png, d->info) != row_bytes)
        fail(d, IMAGE_DAMAGED);
    d->pixels = malloc(row_bytes * height);
    d->rows = malloc(height * sizeof *d->rows);
    if (!d->pixels || !d->rows)
        fail(d, IMAGE_NO_MEMORY);
    for (size_t y = 0; y < height; y++)
        d->rows[y] = d->pixels + y * row_bytes;
    png_read_image(d->png, d->rows);
    png_read_end(d->png, NULL);
    int colours = channels >= 3 ? 3 : 1;
    if (channels != colours)
        drop_alpha(d->pixels, width * height, colours);
    *out = (struct image){(int)width, (int)height, colours, d->pixels};
}

/* The size by the header, ahead of libpng, which would call a too large one damaged. */
static enum image_verdict check_header(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 24 || memcmp(data + 12, "IHDR", 4) != 0)
        return IMAGE_DAMAGED;
    return image_check_size(png_get_uint_32(data + 16), png_get_uint_32(data + 20));
}

enum image_verdict png_decode(struct image *out, const uint8_t *data, size_t size_bytes)
{
    enum image_verdict verdict = check_header(data, size_bytes);
    if (verdict != IMAGE_OK)
        return verdict;
    struct decoder *d = calloc(1, sizeof *d);
    if (!d)
        return IMAGE_NO_MEMORY;
    d->at = data;
    d->end = data + size_bytes;
    if (setjmp(d->failed) == 0) {
        decode(d, out);
        d->verdict = IMAGE_OK;
    } else {
        free(d->pixels);
    }
    verdict = d->verdict;
    png_destroy_read_struct(&d->png, &d->info, NULL);
    free(d->rows);
    free(d);
    return verdict;
}
