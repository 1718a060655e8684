/*
 * fuzz_v2.c - any bytes as an Open Inference Protocol request. The first two bytes are the
 * Inference-Header-Content-Length (0xffff: none was sent), the rest is the body; the model takes
 * 3x2x2 images.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/v2_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sum; /* so that every byte of an image is read */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct v2_shape shape = {.channels = 3, .height = 2, .width = 2};
    struct v2_request r;
    char why[V2_WHY_BYTES] = "";
    if (size < 2)
        return 0;
    int64_t length = data[0] | data[1] << 8;
    int err = v2_request_parse(&r, data + 2, size - 2, length == 0xffff ? V2_NO_HEADER : length,
                               &shape, why);
    if (err) {
        if (why[0] == '\0' || strlen(why) >= sizeof why)
            abort(); /* a refusal says why */
        return 0;
    }
    if (r.count < 1 || r.count > V2_MAX_IMAGES || r.output_count < 1 ||
        r.output_count > V2_MAX_OUTPUTS || r.encoded == (r.pixels != NULL))
        abort();
    for (int i = 0; i < r.count && r.encoded; i++) {
        for (size_t j = 0; j < r.images[i].size_bytes; j++)
            sum += ((const uint8_t *)r.images[i].data)[j];
    }
    for (int i = 0; i < r.count * 12 && !r.encoded; i++) {
        if (!(r.pixels[i] >= 0 && r.pixels[i] <= 255))
            abort();
    }
    v2_request_release(&r);
    return 0;
}
