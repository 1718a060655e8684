/*
 * snapshot_parts.h - what writing and reading a snapshot have in common: a model taken apart, as the file stores it.
 * Private to snapshot.c, snapshot_read.c, snapshot_parts.c and, for its section BASE, model/retire.c.
 *
 * All parameter sections are walks over the parameter table in its order: MASK, SCAL and CODE or KEPT over the convolution
 * weights, REST over everything else. Every one of them is one array of the parts.
 */
#ifndef ACCRETED_CORE_M2KD_SNAPSHOT_PARTS_H
#define ACCRETED_CORE_M2KD_SNAPSHOT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/m2kd/prototypes.h"
#include "core/m2kd/statistics.h"
#include "core/model/model.h"
#include "core/storage/container.h"

#define SECTION_MASK CONTAINER_ID('M', 'A', 'S', 'K')
#define SECTION_KEPT CONTAINER_ID('K', 'E', 'P', 'T')
#define SECTION_SCALES CONTAINER_ID('S', 'C', 'A', 'L')
#define SECTION_CODES CONTAINER_ID('C', 'O', 'D', 'E')
#define SECTION_REST CONTAINER_ID('R', 'E', 'S', 'F')
#define SECTION_BASE CONTAINER_ID('B', 'A', 'S', 'E')
#define SECTION_FACTOR CONTAINER_ID('C', 'O', 'V', 'F')
#define SECTION_MEANS CONTAINER_ID('M', 'E', 'A', 'N')
/* Of earlier files: what SECTION_REST has, and, with MODEL_FILE_PROTOTYPES, what SECTION_FACTOR and SECTION_MEANS have. */
#define SECTION_REST_HALVES CONTAINER_ID('R', 'E', 'S', 'T')
#define SECTION_COVARIANCE_HALVES CONTAINER_ID('C', 'O', 'V', 'H')

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
    struct statistics_codes statistics;
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

/* Numbers of 16 bits as frames have them, in two planes: the low bytes of all, then the high ones. */
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

/* The sections of a model's prototypes and covariance. */
struct packed_statistics {
    void *factor, *means;
    struct container_section sections[2];
};

/* Errors: ERR_NOMEM (nothing to release). */
int statistics_pack(const struct statistics_codes *s, struct packed_statistics *out);
void packed_statistics_release(struct packed_statistics *p);
/* Errors: ERR_FORMAT, ERR_CORRUPT (codes that no writer makes), ERR_NOMEM. */
int statistics_unpack(const struct container *c, struct statistics_codes *s);

/* The length of the folder's name in a path, with the slash. */
size_t base_folder(const char *path);

#endif
