/*
 * snapshot_parts.h - what writing and reading a snapshot have in common: a model taken apart, as the file stores it.
 * Private to snapshot*.c and, for its section BASE, model/retire.c.
 *
 * All parameter sections are walks over the parameter table in its order: MSKA, SCAL and CODA or KEPT over the convolution
 * weights, RESF over everything else. Every one of them is one array of the parts.
 */
#ifndef ACCRETED_CORE_M2KD_SNAPSHOT_PARTS_H
#define ACCRETED_CORE_M2KD_SNAPSHOT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/m2kd/snapshot_coding.h"
#include "core/model/model.h"
#include "core/storage/container.h"

#define SECTION_MASK CONTAINER_ID('M', 'S', 'K', 'A')
#define SECTION_KEPT CONTAINER_ID('K', 'E', 'P', 'T')
#define SECTION_SCALES CONTAINER_ID('S', 'C', 'A', 'L')
#define SECTION_CODES CONTAINER_ID('C', 'O', 'D', 'A')
#define SECTION_REST CONTAINER_ID('R', 'E', 'S', 'F')
#define SECTION_BASE CONTAINER_ID('B', 'A', 'S', 'E')
/* Of earlier files: what SECTION_MASK, SECTION_CODES and SECTION_REST have. */
#define SECTION_MASK_FRAME CONTAINER_ID('M', 'A', 'S', 'K')
#define SECTION_CODES_FRAME CONTAINER_ID('C', 'O', 'D', 'E')
#define SECTION_REST_PLAIN CONTAINER_ID('R', 'E', 'S', 'T')

/* The BASE section, as it stands in the file: the one below, in the same folder. */
struct base {
    uint64_t identity; /* container_identity */
    model_expert_name name;
};

_Static_assert(sizeof(struct base) == 64, "BASE is 64 bytes in the file");

struct parts {
    size_t conv_count, rest_count, scale_count; /* floats of the model */
    size_t bit_count;    /* convolution weights that no file below owns */
    size_t kept_count;   /* ones in `bits` */
    uint8_t *bits;       /* one each of these, least significant first, rest of the last byte 0 */
    bool coded;          /* codes and scales, else halves */
    int8_t *codes;       /* (kept_count) */
    uint16_t *scales;    /* (scale_count): one an output channel of each convolution */
    uint16_t *kept;      /* (kept_count) */
    uint16_t *rest;
};

/* Where the walk over all convolutions stands. */
struct place {
    size_t bit, scale, rest;
};

/* Room for the largest case: every weight kept that `mask` (mask.h) does not call owned. Errors: ERR_NOMEM. */
int parts_init(struct parts *p, const struct model *m, const uint8_t *mask);
void parts_release(struct parts *p);

static inline bool is_conv(const struct param_entry *e)
{
    return e->kind == PARAM_CONV_WEIGHT;
}

static inline size_t bit_bytes(size_t bits)
{
    return (bits + 7) / 8;
}

/* Numbers of 16 bits as the frame of SECTION_REST has them, in two planes: the low bytes of all, then the high ones. */
static inline size_t plane_bytes(size_t count)
{
    return 2 * count;
}
static inline void plane_put(uint8_t *planes, size_t count, size_t i, unsigned number)
{
    planes[i] = (uint8_t)(number & 0xff);
    planes[count + i] = (uint8_t)(number >> 8);
}
static inline unsigned plane_get(const uint8_t *planes, size_t count, size_t i)
{
    return planes[i] | (unsigned)planes[count + i] << 8;
}

/* One zstd frame that declares its content size; *packed is the caller's to free. Errors: ERR_NOMEM. */
int frame_pack(const void *data, size_t bytes, uint32_t id, struct container_section *out,
               void **packed);
/* Unpacks section `id`, a frame that must hold exactly `bytes`. Errors: ERR_FORMAT. */
int frame_unpack(const struct container *c, uint32_t id, void *to, size_t bytes);

/* A section of what *a coded, which is done with then; *bytes is the caller's to free. `err`: what coding said, which is returned.
 * Errors: ERR_NOMEM. */
int coded_section(struct arithmetic *a, int err, uint32_t id, struct container_section *out,
                  void **bytes);
/* A decoder of section `id`. Errors: ERR_FORMAT (there is none). */
int coded_open(struct arithmetic *a, const struct container *c, uint32_t id);

/* The length of the folder's name in a path, with the slash. */
size_t base_folder(const char *path);

#endif
