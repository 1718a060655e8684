/*
 * fuzz_snapshot.c - any bytes as a snapshot file. Its checksums are put right first, where its table can be read: what they
 * hold off is tested elsewhere, and behind them stand sizes, masks and codes that must be checked themselves.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/storage/container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = 32, ROW = 32 };

static void put_right(uint8_t *file, size_t size)
{
    uint32_t count;
    uint64_t length = size, sum;
    if (size < HEADER)
        return;
    memcpy(&count, file + 16, sizeof count);
    memcpy(file + 24, &length, sizeof length);
    if (count > CONTAINER_MAX_SECTIONS || size < HEADER + (size_t)count * ROW + sizeof sum)
        return;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *row = file + HEADER + i * ROW;
        uint64_t at, bytes;
        memcpy(&at, row + 8, sizeof at);
        memcpy(&bytes, row + 16, sizeof bytes);
        if (at > size || bytes > size - at)
            continue;
        sum = XXH3_64bits(file + at, bytes);
        memcpy(row + 24, &sum, sizeof sum);
    }
    sum = XXH3_64bits(file, HEADER + count * ROW);
    memcpy(file + HEADER + count * ROW, &sum, sizeof sum);
}

/* What was taken can be written again, in another precision too. */
static void use(struct model *m, const char *path)
{
    static const int bits[] = {4, SNAPSHOT_HALF};
    uint8_t *mask = malloc(m->net->params.count);
    if (!mask || mask_by_magnitude(m->net, m->params, 0.5f, mask) != 0)
        abort();
    for (int i = 0; i < 2; i++)
        if (snapshot_round(m, mask, bits[i]) != 0 ||
            snapshot_save(m, mask, bits[i], path, NULL) != 0)
            abort();
    free(mask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char folder[] = "/tmp/fuzz-snapshot-XXXXXX", path[64];
    uint8_t *file = malloc(size + 1);
    if (!file || !mkdtemp(folder))
        abort();
    memcpy(file, data, size);
    put_right(file, size);
    snprintf(path, sizeof path, "%s/file", folder);
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(file, 1, size, out) != size || fclose(out) != 0)
        abort();
    struct model *m;
    if (snapshot_load(&m, path, CONV_ISA_BASELINE) == 0) {
        use(m, path);
        model_release(m);
    }
    unlink(path);
    rmdir(folder);
    free(file);
    return 0;
}
