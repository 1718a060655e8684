#include "core/learner/checkpoint.h"

#include <string.h>

#include "core/err.h"
#include "core/storage/container.h"

enum {
    SECTION_STATE = CONTAINER_ID('S', 'T', 'A', 'T'),
    SECTION_PARAMS = CONTAINER_ID('P', 'A', 'R', 'M'),
    SECTION_VELOCITY = CONTAINER_ID('V', 'E', 'L', 'O'),
    SECTION_DENSE = CONTAINER_ID('D', 'E', 'N', 'S'),
};

struct state_record { /* 48 bytes, no holes */
    uint64_t fingerprint, param_count;
    char kernel[16];
    int32_t gang, epochs_done, has_dense, mixed;
};

int checkpoint_save(const struct checkpoint *c, const char *path)
{
    uint64_t bytes = c->param_count * sizeof(float);
    struct state_record state = {
        .fingerprint = c->fingerprint,
        .param_count = c->param_count,
        .gang = c->gang,
        .epochs_done = c->epochs_done,
        .has_dense = c->dense != NULL,
        .mixed = c->mixed,
    };
    memcpy(state.kernel, c->kernel, sizeof state.kernel);
    struct container_section sections[4] = {
        {SECTION_STATE, sizeof state, &state},
        {SECTION_PARAMS, bytes, c->params},
        {SECTION_VELOCITY, bytes, c->velocity},
        {SECTION_DENSE, bytes, c->dense},
    };
    return container_write(path, CONTAINER_CHECKPOINT, sections, c->dense ? 4 : 3, NULL);
}

static int copy_section(const struct container *file, uint32_t id, uint64_t bytes, float *out)
{
    const void *data;
    int err = container_find_sized(file, id, bytes, &data);
    if (!err)
        memcpy(out, data, bytes);
    return err;
}

int checkpoint_load(struct checkpoint *c, const char *path, bool *has_dense)
{
    struct container *file;
    struct state_record state;
    const void *data;
    uint64_t bytes = c->param_count * sizeof(float);
    int err = container_read(&file, path, CONTAINER_CHECKPOINT);
    if (err)
        return err;
    err = container_find_sized(file, SECTION_STATE, sizeof state, &data);
    if (err)
        goto out;
    memcpy(&state, data, sizeof state);
    err = ERR_FORMAT;
    if (state.fingerprint != c->fingerprint || state.param_count != c->param_count ||
        state.epochs_done < 0 || state.kernel[sizeof state.kernel - 1])
        goto out;
    err = copy_section(file, SECTION_PARAMS, bytes, c->params);
    if (!err)
        err = copy_section(file, SECTION_VELOCITY, bytes, c->velocity);
    if (!err && state.has_dense)
        err = copy_section(file, SECTION_DENSE, bytes, c->dense);
    if (err)
        goto out;
    memcpy(c->kernel, state.kernel, sizeof c->kernel);
    c->gang = state.gang;
    c->epochs_done = state.epochs_done;
    c->mixed = state.mixed;
    *has_dense = state.has_dense;
out:
    container_free(file);
    return err;
}
