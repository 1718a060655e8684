/*
 * experts.c - see experts.h.
 */
#include "core/m2kd/experts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/snapshot.h"

static int load(struct model **out, const struct model *of, const char *path, enum conv_isa isa)
{
    struct model *m;
    int err = snapshot_load_network(&m, path, isa);
    if (err)
        return err == ERR_MISSING ? ERR_CORRUPT : err;
    if (m->step_count >= of->step_count ||
        !model_continues(of, m, of->step_count - m->step_count)) {
        model_release(m);
        return ERR_FORMAT;
    }
    model_drop_statistics(m);
    *out = m;
    return 0;
}

int experts_load(struct model *m, const char *folder, enum conv_isa isa)
{
    char path[4400];
    int count = 0, err = 0;
    if (m->experts || m->expert_count == 0)
        return 0;
    struct model **experts = malloc((size_t)m->expert_count * sizeof(struct model *));
    if (!experts)
        return ERR_NOMEM;
    while (count < m->expert_count && !err) {
        snprintf(path, sizeof path, "%s/%s", folder, m->expert_names[count]);
        err = load(&experts[count], m, path, isa);
        count += !err;
    }
    if (!err) {
        m->experts = experts;
        return 0;
    }
    while (count > 0)
        model_release(experts[--count]);
    free(experts);
    return err;
}
