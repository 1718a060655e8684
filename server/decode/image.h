/*
 * image.h - untrusted encoded images to pixels: JPEG (libjpeg-turbo), PNG (libpng); and resizing.
 *
 * Limits: 25 megapixels, 16,384 a side, 100 JPEG scans; at most about 256 MiB are used while
 * decoding. A truncated or damaged image is refused, not half decoded: the libraries' warnings are
 * errors. The result has 8 bits a channel: grey stays 1 channel; colour, palette and CMYK become 3;
 * 16 bit is scaled; transparent pixels are laid on white, as a page would show them. Metadata is
 * not read: no colour profile, gamma or EXIF rotation. Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_DECODE_IMAGE_H
#define ACCRETED_SERVER_DECODE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "server/store/pack.h"

enum { IMAGE_MAX_SIDE = 16384, IMAGE_MAX_PIXELS = 25000000, IMAGE_MAX_SCANS = 100 };

struct image {
    int width, height, channels; /* 1 or 3 */
    uint8_t *pixels;             /* owned; (height, width, channels) */
};

/* Why an image was refused: stable codes of the API. */
enum image_verdict {
    IMAGE_OK,
    IMAGE_UNKNOWN_FORMAT, /* "unknown_format": neither JPEG nor PNG by its first bytes */
    IMAGE_DAMAGED,        /* "damaged_image": truncated or corrupt */
    IMAGE_TOO_LARGE,      /* "image_too_large": over the limits */
    IMAGE_EMPTY,          /* "empty_file" */
    IMAGE_NO_MEMORY,      /* "no_memory" */
};
/* Its code, "ok" for IMAGE_OK. Static storage. */
const char *image_verdict_code(enum image_verdict v);

/* Format by magic bytes; *encoding only written on IMAGE_OK. */
enum image_verdict image_sniff(const void *data, size_t size_bytes, enum pack_encoding *encoding);
/* *out is written on IMAGE_OK only; release it with image_release. */
enum image_verdict image_decode(struct image *out, const void *data, size_t size_bytes);
void image_release(struct image *img);

/* Resizes to (height, width, channels) into `out`: area average when shrinking, bilinear when
 * growing, each axis for itself; grey <-> colour by replication or BT.601 luma. Same size and
 * channels: a copy. Errors: ERR_INVALID (a size below 1, channels not 1 or 3), ERR_NOMEM. */
int image_fit(const struct image *img, int height, int width, int channels, uint8_t *out);

/* Decodes whatever a pack holds, raw pixels too. */
enum image_verdict image_from_pack(struct image *out, const struct pack_image *stored);

#endif
