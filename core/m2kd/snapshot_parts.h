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
#include "core/model/model.h"
#include "core/storage/container.h"

#define SECTION_MASK CONTAINER_ID('M', 'A', 'S', 'K')
#define SECTION_KEPT CONTAINER_ID('K', 'E', 'P', 'T')
#define SECTION_SCALES CONTAINER_ID('S', 'C', 'A', 'L')
#define SECTION_CODES CONTAINER_ID('C', 'O', 'D', 'E')
#define SECTION_REST CONTAINER_ID('R', 'E', 'S', 'T')
#define SECTION_BASE CONTAINER_ID('B', 'A', 'S', 'E')
#define SECTION_COVARIANCE CONTAINER_ID('C', 'O', 'V', 'H')

/* The BASE section, as it stands in the file: the one below, in the same folder. */
struct base {
    uint64_t identity; /* container_identity */
    model_expert_name name;
};

_Static_assert(sizeof(struct base) == 64, "BASE is 64 bytes in the file");

struct parts {
    size_t conv_count, rest_count, prototype_count, scale_count; /* floats of the model */
    size_t bit_count;    /* convolution weights that no file below owns */
    size_t kept_count;   /* ones in `bits` */
    uint8_t *bits;       /* one each of these, least significant first, rest of the last byte 0 */
    bool coded;          /* codes and scales, else halves */
    int8_t *codes;       /* (kept_count) */
    uint16_t *scales;    /* (scale_count): one an output channel of each convolution */
    uint16_t *kept;      /* (kept_count) */
    uint16_t *rest, *prototypes;
    struct packed_covariance *covariance;
};

/* The COVH section, as it stands in the file: entries are halves times the scale, the power of two that the largest one needs. */
struct packed_covariance {
    float scale;
    uint16_t halves[];
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

static inline size_t packed_covariance_bytes(const struct model *m)
{
    return sizeof(struct packed_covariance) + COVARIANCE_FLOATS(model_width(m)) * sizeof(uint16_t);
}
/* Packs the covariance of m, all of it finite; whether it is what comes back. */
bool covariance_pack(const struct model *m, struct packed_covariance *to);
void covariance_unpack(const struct packed_covariance *from, struct model *m);

/* The length of the folder's name in a path, with the slash. */
size_t base_folder(const char *path);

#endif
