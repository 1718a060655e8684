/*
 * fuzz_image.c - any bytes to image_decode; what it accepts must resize.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/decode/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image img;
    uint8_t fitted[3 * 32 * 32];
    if (image_decode(&img, data, size) != IMAGE_OK)
        return 0;
    if (image_fit(&img, 32, 32, 3, fitted) != 0) /* reads every pixel */
        abort();
    image_release(&img);
    return 0;
}
