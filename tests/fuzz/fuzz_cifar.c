/*
 * fuzz_cifar.c - any bytes as a CIFAR file, plain or compressed, under both formats.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/decode/cifar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as(enum cifar_format format, const uint8_t *data, size_t size)
{
    struct cifar *c;
    const uint8_t *pixels;
    const char *why;
    int label;
    bool present[256];
    if (cifar_values(format, span_of_memory(data, size), present) != 0 ||
        cifar_new(&c, format, span_of_memory(data, size)) != 0)
        abort();
    while (cifar_next(c, &pixels, &label, &why) == 1) {
        volatile uint8_t last = pixels[CIFAR_PIXEL_BYTES - 1];
        (void)last;
        if (!present[label])
            abort();
    }
    cifar_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum cifar_format format;
    bool ambiguous;
    if (cifar_detect(span_of_memory(data, size), &format, &ambiguous) != 0)
        abort();
    read_as(CIFAR_10, data, size);
    read_as(CIFAR_100, data, size);
    return 0;
}
