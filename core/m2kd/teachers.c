#include "core/m2kd/teachers.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/snapshot.h"

struct teacher {
    struct frozen *frozen;
    int first, end; /* the classes it teaches */
};

struct teachers {
    int count, per_row, member_count, classes, heads;
    const atomic_int *command; /* or NULL */
    struct teacher *each;
    struct frozen_workspace **workspaces; /* (member_count) */
    float **own;   /* (member_count * heads): one teacher's logits of a chunk */
    float **views; /* (member_count): the images of a chunk, gathered */
    float *logits[RESNET_MAX_HEADS];      /* (batch_max, classes), `heads` of them */
};

enum { CHUNK = 16 }; /* images a teacher sees at a time */

static int load_teacher(struct teacher *teacher, const char *path, int step, bool teaches_all,
                        enum conv_isa isa, enum teachers_precision precision)
{
    struct model *m;
    int err = snapshot_load(&m, path, isa);
    if (err)
        return err;
    if (m->step_count != step + 1) {
        err = ERR_FORMAT;
        goto out;
    }
    model_step_classes(m, step, &teacher->first, &teacher->end);
    if (teaches_all)
        teacher->first = 0;
    if (precision == TEACHERS_FASTEST && conv_precision_available(CONV_BF16, isa))
        err = resnet_set_precision(m->net, CONV_BF16);
    if (!err)
        err = frozen_new(&teacher->frozen, m);
out:
    model_release(m);
    return err;
}

static bool same_network(const struct teachers *t)
{
    const struct resnet_spec *a = &frozen_model(t->each[0].frozen)->net->spec;
    for (int i = 1; i < t->count; i++) {
        const struct resnet_spec *b = &frozen_model(t->each[i].frozen)->net->spec;
        if (a->arch != b->arch || a->blocks != b->blocks || a->channels != b->channels ||
            a->height != b->height || a->width != b->width ||
            t->each[i].first != t->each[i - 1].end)
            return false;
    }
    return true;
}

static size_t image_floats(const struct teachers *t)
{
    const struct resnet_spec *s = &frozen_model(t->each[0].frozen)->net->spec;
    return (size_t)s->height * s->width * s->channels;
}

static int alloc_rows(struct teachers *t, int batch_max)
{
    t->workspaces = calloc((size_t)t->member_count, sizeof(struct frozen_workspace *));
    t->own = calloc((size_t)t->member_count * (size_t)t->heads, sizeof *t->own);
    t->views = calloc((size_t)t->member_count, sizeof *t->views);
    if (!t->workspaces || !t->own || !t->views)
        return ERR_NOMEM;
    for (int m = 0; m < t->member_count; m++) {
        t->views[m] = malloc(CHUNK * image_floats(t) * sizeof(float));
        int err = t->views[m] ? frozen_workspace_new(&t->workspaces[m], t->each[0].frozen)
                              : ERR_NOMEM;
        if (err)
            return err;
    }
    for (int i = 0; i < t->member_count * t->heads; i++) {
        t->own[i] = malloc((size_t)CHUNK * t->classes * sizeof(float));
        if (!t->own[i])
            return ERR_NOMEM;
    }
    for (int h = 0; h < t->heads; h++) {
        t->logits[h] = malloc((size_t)batch_max * t->classes * sizeof(float));
        if (!t->logits[h])
            return ERR_NOMEM;
    }
    return 0;
}

static bool commanded(const struct teachers *t)
{
    return t->command && atomic_load_explicit(t->command, memory_order_relaxed) != 0;
}

int teachers_new(struct teachers **out, const char *const *paths, int count,
                 enum teachers_which which, int per_image, int member_count, int batch_max,
                 enum conv_isa isa, enum teachers_precision precision, const atomic_int *command)
{
    struct teachers *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NOMEM;
    int err = ERR_NOMEM, skip = which == TEACHERS_LAST ? count - 1 : 0;
    t->count = count - skip;
    t->per_row = per_image > 0 && per_image < t->count ? per_image : t->count;
    t->member_count = member_count;
    t->command = command;
    t->each = calloc((size_t)t->count, sizeof *t->each);
    if (!t->each)
        goto fail;
    for (int i = 0; i < t->count; i++) {
        err = commanded(t) ? ERR_CANCELLED : 0;
        if (err)
            goto fail;
        err = load_teacher(&t->each[i], paths[skip + i], skip + i, which == TEACHERS_LAST, isa,
                           precision);
        if (err)
            goto fail;
    }
    t->classes = t->each[t->count - 1].end;
    t->heads = frozen_model(t->each[0].frozen)->net->head_count;
    err = same_network(t) ? alloc_rows(t, batch_max) : ERR_FORMAT;
    if (err)
        goto fail;
    *out = t;
    return 0;
fail:
    teachers_free(t);
    return err;
}

void teachers_free(struct teachers *t)
{
    if (!t)
        return;
    for (int i = 0; t->each && i < t->count; i++)
        frozen_free(t->each[i].frozen);
    for (int m = 0; t->workspaces && m < t->member_count; m++)
        frozen_workspace_free(t->workspaces[m]);
    for (int m = 0; t->views && m < t->member_count; m++)
        free(t->views[m]);
    for (int i = 0; t->own && i < t->member_count * t->heads; i++)
        free(t->own[i]);
    for (int h = 0; h < t->heads; h++)
        free(t->logits[h]);
    free(t->each);
    free(t->workspaces);
    free(t->own);
    free(t->views);
    free(t);
}

/* One teacher's columns of up to CHUNK gathered images, into the shared rows. */
static void teach_chunk(struct teachers *t, int member, const struct teacher *teacher, int n,
                        const int *rows, int heads)
{
    int own_classes = frozen_model(teacher->frozen)->net->spec.classes;
    int taught = teacher->end - teacher->first;
    float **own = &t->own[member * t->heads];
    struct frozen_output out = {.features = NULL};
    for (int h = 0; h < heads; h++)
        out.logits[h] = own[h];
    frozen_forward(teacher->frozen, t->workspaces[member], n, t->views[member], &out);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < n; i++)
            memcpy(t->logits[h] + (size_t)rows[i] * t->classes + teacher->first,
                   own[h] + (size_t)i * own_classes + teacher->first,
                   (size_t)taught * sizeof(float));
}

/*
 * Number of the first teacher of a row; the others follow, modulo their number. CHUNK rows in turn
 * have the same ones, so that a teacher's weights come from memory once for all of them; as images
 * are shuffled and batches begin with another teacher each, every image meets all of them alike.
 */
static int first_teacher(const struct teachers *t, int batch, int at)
{
    return (int)(((int64_t)batch + at / CHUNK) % t->count);
}

static bool row_has_teacher(const struct teachers *t, int batch, int at, int teacher)
{
    return (teacher - first_teacher(t, batch, at) + t->count) % t->count < t->per_row;
}

void teachers_forward(struct teachers *t, int member, int batch, int at, int n, const float *x,
                      bool taps)
{
    size_t image = image_floats(t);
    int heads = taps ? t->heads : 1;
    for (int k = 0; k < t->count && !commanded(t); k++) {
        int rows[CHUNK], gathered = 0;
        for (int i = 0; i < n; i++) {
            if (!row_has_teacher(t, batch, at + i, k))
                continue;
            memcpy(t->views[member] + gathered * image, x + i * image, image * sizeof *x);
            rows[gathered++] = at + i;
            if (gathered == CHUNK) {
                teach_chunk(t, member, &t->each[k], gathered, rows, heads);
                gathered = 0;
            }
        }
        if (gathered)
            teach_chunk(t, member, &t->each[k], gathered, rows, heads);
    }
}

const float *teachers_logits(const struct teachers *t, int head, int at)
{
    return t->logits[head] + (size_t)at * t->classes;
}

int teachers_classes(const struct teachers *t)
{
    return t->classes;
}

int teachers_per_row(const struct teachers *t)
{
    return t->per_row;
}

void teachers_of_row(const struct teachers *t, int batch, int at, int which, int *first, int *end)
{
    const struct teacher *teacher = &t->each[(first_teacher(t, batch, at) + which) % t->count];
    *first = teacher->first;
    *end = teacher->end;
}

float teachers_weight(const struct teachers *t)
{
    return (float)t->count / (float)t->per_row;
}
