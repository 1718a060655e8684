/*
 * fuzz_snapshot.c - any bytes as a snapshot file. Its checksums are put right first, where its table can be read: what they
 * hold off is tested elsewhere, and behind them stand sizes, masks and codes that must be checked themselves. A good file
 * called "base" stands beside it, and what identifies that in a section BASE is put right too.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/m2kd/experts.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/storage/container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = 32, ROW = 32 };

static uint8_t *base; /* the file */
static size_t base_size;
static uint64_t base_identity;

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(data, 1, size, out) != size || fclose(out) != 0)
        abort();
}

/* One step of two classes, a quarter of its weights kept; made at `path`, once. */
static void make_base(const char *path)
{
    static const int steps[] = {2};
    const struct resnet_spec spec = {.blocks = 1, .channels = 1, .height = 8, .width = 8,
                                     .classes = 2};
    struct model *m;
    struct container *c;
    uint64_t bytes;
    if (model_new(&m, &spec, steps, 1, CONV_ISA_BASELINE) != 0)
        abort();
    uint8_t *mask = malloc(m->net->params.count);
    resnet_initialise(m->net, 1, m->params);
    m->mean[0] = 0.5f; /* as what builds on it in the corpus */
    m->std[0] = 0.25f;
    m->view = (struct model_view){1, 0.5f};
    if (!mask || mask_by_magnitude(m->net, m->params, NULL, 0.25f, mask) != 0 ||
        snapshot_round(m, mask, 6) != 0 || snapshot_save(m, mask, 6, path, &bytes) != 0 ||
        container_read(&c, path, CONTAINER_SNAPSHOT) != 0)
        abort();
    base_identity = container_identity(c);
    container_free(c);
    FILE *in = fopen(path, "rb");
    base = malloc(bytes);
    base_size = bytes;
    if (!in || !base || fread(base, 1, bytes, in) != bytes)
        abort();
    fclose(in);
    model_release(m);
    free(mask);
}

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
        uint32_t id;
        memcpy(&id, row, sizeof id);
        memcpy(&at, row + 8, sizeof at);
        memcpy(&bytes, row + 16, sizeof bytes);
        if (at > size || bytes > size - at)
            continue;
        if (id == CONTAINER_ID('B', 'A', 'S', 'E') && bytes >= sizeof base_identity)
            memcpy(file + at, &base_identity, sizeof base_identity);
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
    if (!mask || mask_by_magnitude(m->net, m->params, NULL, 0.5f, mask) != 0)
        abort();
    for (int i = 0; i < 2; i++)
        if (snapshot_round(m, mask, bits[i]) != 0 ||
            snapshot_save(m, mask, bits[i], path, NULL) != 0)
            abort();
    free(mask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char folder[] = "/tmp/fuzz-snapshot-XXXXXX", path[64], base_path[64];
    uint8_t *file = malloc(size + 1);
    if (!file || !mkdtemp(folder))
        abort();
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(base_path, sizeof base_path, "%s/base", folder);
    if (base)
        write_file(base_path, base, base_size);
    else
        make_base(base_path);
    memcpy(file, data, size);
    put_right(file, size);
    write_file(path, file, size);
    struct model *m;
    if (snapshot_load(&m, path, CONV_ISA_BASELINE) == 0) {
        experts_load(m, folder, CONV_ISA_BASELINE); /* what it names may be anything */
        use(m, path);
        model_release(m);
    }
    unlink(path);
    unlink(base_path);
    rmdir(folder);
    free(file);
    return 0;
}
