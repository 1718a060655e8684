/*
 * fuzz_multipart.c - any bytes as a multipart body. The first byte is the length of the
 * Content-Type that follows, the rest is the body.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/decode/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char type[256] = "";
    if (size == 0 || data[0] >= size)
        return 0;
    size_t type_bytes = data[0];
    memcpy(type, data + 1, type_bytes);
    const uint8_t *body = data + 1 + type_bytes, *end = data + size, *before = body;
    struct multipart m;
    struct multipart_part part;
    if (multipart_init(&m, type, span_of_memory(body, (size_t)(end - body))) != 0)
        return 0;
    while (multipart_next(&m, &part) == 1) {
        /* Parts lie in the body, one behind the other. */
        if (part.data < before || part.data + part.size_bytes > end || part.name[0] == '\0')
            abort();
        before = part.data + part.size_bytes;
    }
    return 0;
}
