/*
 * fuzz_idx.c - any bytes as the two files of an IDX data set. The first two bytes are the length of
 * the first one.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/decode/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t first = (size_t)(data[0] | data[1] << 8);
    data += 2;
    size -= 2;
    if (first > size)
        return 0;
    struct span images = span_of_memory(data, first);
    struct span labels = span_of_memory(data + first, size - first);
    struct idx *x;
    const char *why;
    const uint8_t *pixels;
    int label, got, count = 0;
    bool present[256];
    if (idx_values(labels, present) != 0)
        abort();
    if (idx_new(&x, images, labels, &why) != 0)
        return 0;
    while ((got = idx_next(x, &pixels, &label, &why)) == 1) {
        volatile uint8_t last = pixels[idx_width(x) * idx_height(x) - 1];
        (void)last;
        if (!present[label])
            abort();
        count++;
    }
    if (got == 0 && (count < 1 || count > IDX_MAX_IMAGES))
        abort();
    idx_free(x);
    return 0;
}
