/*
 * fuzz_safetensors.c - any bytes as a safetensors file. The first byte says how: 'f' a whole file follows; 'h' a
 * header alone, to which the tensors of the smallest network are added, all zero, so that a short input can be whole.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/export/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TENSOR_BYTES = 309080 }; /* of ResNet-8 for 1 channel and 2 classes */

static uint8_t *make_file(const uint8_t *header, size_t header_bytes, size_t *size)
{
    uint64_t length = header_bytes;
    *size = sizeof length + header_bytes + TENSOR_BYTES;
    uint8_t *file = calloc(*size, 1);
    if (!file)
        abort();
    memcpy(file, &length, sizeof length);
    memcpy(file + sizeof length, header, header_bytes);
    return file;
}

static void read_file(const uint8_t *file, size_t size)
{
    struct safetensors got;
    char why[256] = "";
    int err = safetensors_read(&got, file, size, CONV_ISA_BASELINE, why, sizeof why);
    if (err == ERR_FORMAT && why[0] == '\0')
        abort();
    if (err)
        return;
    /* What was taken can be written. */
    void *copy;
    size_t copy_bytes;
    struct export_source source = {
        .model = got.model, .labels = (const char *const *)got.labels, .version = 1};
    if (got.label_count != got.model->net->spec.classes ||
        safetensors_write(&source, &copy, &copy_bytes) != 0)
        abort();
    free(copy);
    safetensors_release(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] != 'h') {
        read_file(data + 1, size - 1);
        return 0;
    }
    size_t file_bytes;
    uint8_t *file = make_file(data + 1, size - 1, &file_bytes);
    read_file(file, file_bytes);
    free(file);
    return 0;
}
