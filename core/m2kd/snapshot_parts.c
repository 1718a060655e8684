/*
 * snapshot_parts.c - see snapshot_parts.h.
 */
#include "core/m2kd/snapshot_parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/model/model_file.h"

void parts_release(struct parts *p)
{
    free(p->bits);
    free(p->codes);
    free(p->scales);
    free(p->kept);
    free(p->rest);
    free(p->prototypes);
}

int parts_init(struct parts *p, const struct model *m, const uint8_t *mask)
{
    const struct param_table *t = &m->net->params;
    *p = (struct parts){.prototype_count = model_file_prototypes(m)};
    for (int e = 0; e < t->entry_count; e++) {
        if (!is_conv(&t->entries[e]))
            continue;
        p->conv_count += t->entries[e].count;
        for (size_t i = 0; i < t->entries[e].count; i++)
            p->bit_count += mask[t->entries[e].offset + i] != MASK_OWNED;
        p->scale_count += (size_t)t->entries[e].dims[3];
    }
    p->rest_count = t->count - p->conv_count;
    p->bits = calloc(bit_bytes(p->bit_count) + 1, 1);
    p->codes = calloc(p->conv_count, sizeof *p->codes);
    p->scales = calloc(p->scale_count, sizeof *p->scales);
    p->kept = calloc(p->conv_count, sizeof *p->kept);
    p->rest = calloc(p->rest_count, sizeof *p->rest);
    p->prototypes = calloc(p->prototype_count, sizeof *p->prototypes);
    if (p->bits && p->codes && p->scales && p->kept && p->rest && p->prototypes)
        return 0;
    parts_release(p);
    return ERR_NOMEM;
}

size_t base_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

bool base_name_valid(const struct base *b)
{
    size_t bytes = sizeof b->name, length = strnlen(b->name, bytes);
    if (length == 0 || length == bytes || b->name[0] == '.')
        return false;
    for (size_t i = 0; i < bytes; i++) {
        char c = b->name[i];
        if (i < length ? c <= ' ' || c > '~' || c == '/' : c != '\0')
            return false;
    }
    return true;
}
