/*
 * fuzz_tarball.c - any bytes as a tar archive, plain or gzipped.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/decode/label.h"
#include "server/decode/tarball.h"

enum { MAX_FILE_BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int look(void *ctx, const struct tarball_entry *entry)
{
    unsigned *sum = ctx;
    char clean[64];
    text_clean(entry->path, clean, sizeof clean);
    *sum += (unsigned)strlen(clean);
    if (entry->data && entry->size_bytes > MAX_FILE_BYTES)
        abort();
    for (size_t i = 0; entry->data && i < entry->size_bytes; i++)
        *sum += entry->data[i];
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tarball_error error;
    unsigned sum = 0;
    tarball_read(span_of_memory(data, size), MAX_FILE_BYTES, look, &sum, &error);
    return 0;
}
