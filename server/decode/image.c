/*
 * image.c - format by first bytes, the limits, and the way from stored image to pixels.
 */
#include "server/decode/image.h"

#include <stdlib.h>
#include <string.h>

#include "server/decode/codec.h"

static const uint8_t jpeg_magic[] = {0xff, 0xd8, 0xff};
static const uint8_t png_magic[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

const char *image_verdict_code(enum image_verdict v)
{
    switch (v) {
    case IMAGE_OK:
        return "ok";
    case IMAGE_UNKNOWN_FORMAT:
        return "unknown_format";
    case IMAGE_DAMAGED:
        return "damaged_image";
    case IMAGE_TOO_LARGE:
        return "image_too_large";
    case IMAGE_EMPTY:
        return "empty_file";
    case IMAGE_NO_MEMORY:
        return "no_memory";
    }
    return "damaged_image";
}

enum image_verdict image_check_size(uint64_t width, uint64_t height)
{
    if (width == 0 || height == 0)
        return IMAGE_DAMAGED;
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE || width * height > IMAGE_MAX_PIXELS)
        return IMAGE_TOO_LARGE;
    return IMAGE_OK;
}

enum image_verdict image_sniff(const void *data, size_t size_bytes, enum pack_encoding *encoding)
{
    if (size_bytes == 0)
        return IMAGE_EMPTY;
    if (size_bytes >= sizeof jpeg_magic && memcmp(data, jpeg_magic, sizeof jpeg_magic) == 0)
        *encoding = PACK_JPEG;
    else if (size_bytes >= sizeof png_magic && memcmp(data, png_magic, sizeof png_magic) == 0)
        *encoding = PACK_PNG;
    else
        return IMAGE_UNKNOWN_FORMAT;
    return IMAGE_OK;
}

enum image_verdict image_decode(struct image *out, const void *data, size_t size_bytes)
{
    enum pack_encoding encoding;
    enum image_verdict v = image_sniff(data, size_bytes, &encoding);
    if (v != IMAGE_OK)
        return v;
    return encoding == PACK_JPEG ? jpeg_decode(out, data, size_bytes)
                                 : png_decode(out, data, size_bytes);
}

void image_release(struct image *img)
{
    free(img->pixels);
    img->pixels = NULL;
}

enum image_verdict image_from_pack(struct image *out, const struct pack_image *stored)
{
    if (stored->encoding != PACK_RAW)
        return image_decode(out, stored->data, stored->size_bytes);
    enum image_verdict v = image_check_size((uint64_t)stored->width, (uint64_t)stored->height);
    if (v != IMAGE_OK)
        return v;
    uint8_t *pixels = malloc(stored->size_bytes);
    if (!pixels)
        return IMAGE_NO_MEMORY;
    memcpy(pixels, stored->data, stored->size_bytes);
    *out = (struct image){stored->width, stored->height, stored->channels, pixels};
    return IMAGE_OK;
}
