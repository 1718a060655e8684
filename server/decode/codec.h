/*
 * codec.h - private to image.c: the two decoders behind image_decode.
 *
 * Both write *out on IMAGE_OK only. The libraries jump out on an error (longjmp), so everything
 * that must be freed afterwards lives in a struct outside the jumping function.
 */
#ifndef ACCRETED_SERVER_DECODE_CODEC_H
#define ACCRETED_SERVER_DECODE_CODEC_H

#include "server/decode/image.h"

enum image_verdict jpeg_decode(struct image *out, const uint8_t *data, size_t size_bytes);
enum image_verdict png_decode(struct image *out, const uint8_t *data, size_t size_bytes);

/* IMAGE_OK, IMAGE_DAMAGED (a side of 0) or IMAGE_TOO_LARGE. */
enum image_verdict image_check_size(uint64_t width, uint64_t height);

#endif
