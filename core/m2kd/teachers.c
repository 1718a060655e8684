#include "core/m2kd/teachers.h"

#include <stdlib.h>
#include <string.h>

#include "core/command.h"
#include "core/err.h"
#include "core/m2kd/snapshot.h"

struct teacher {
    struct frozen *frozen; /* of the base NULL: there is none */
    int first, end; /* the classes whose logits it teaches */
};

struct teachers {
    int count, per_row, member_count, classes, heads;
    struct teacher base;
    int base_turns; /* it is shown one chunk in so many */
    const atomic_int *command; /* or NULL */
    struct teacher *each;
    struct frozen_workspace **workspaces; /* (member_count) */
    float **own;   /* (member_count * (heads + 1)): one teacher's logits of a chunk, and last the base's features */
    float **views; /* (member_count): the images of a chunk, gathered */
    float *logits[RESNET_MAX_HEADS]; /* (batch_max, classes), `heads` of them */
    float *features;                 /* (batch_max, feature_count) of the base */
};

enum {
    CHUNK = 16, /* images a teacher sees at a time */
    BASE_TURNS = 4, /* with per_image the base sees one chunk in so many, but some of each batch: as good as all, and cheaper */
};

static int freeze(struct frozen **out, struct model *m, const struct teachers_options *o)
{
    int err = resnet_set_precision(m->net, o->precision);
    return err ? err : frozen_new(out, m);
}

static int load_teacher(struct teacher *teacher, const char *path, int step,
                        const struct teachers_options *o)
{
    struct model *m;
    int err = snapshot_load_network(&m, path, o->isa);
    if (err)
        return err;
    if (m->step_count != step + 1) {
        err = ERR_FORMAT;
        goto out;
    }
    model_step_classes(m, step, &teacher->first, &teacher->end);
    if (o->which == TEACHERS_LAST)
        teacher->first = 0;
    err = freeze(&teacher->frozen, m, o);
out:
    model_release(m);
    return err;
}

/* A copy of the base's network, for its convolutions may be computed otherwise than those of the model that serves. */
static int copy_base(struct teachers *t, const struct teachers_options *o)
{
    struct model *m;
    if (!resnet_same_network(o->base->net, o->student) ||
        o->base->net->spec.classes != o->old_classes)
        return ERR_FORMAT;
    int err = model_copy_network(&m, o->base, o->isa);
    if (err)
        return err;
    t->base.end = t->base_turns > 1 ? o->old_classes : 0;
    err = freeze(&t->base.frozen, m, o);
    model_release(m);
    return err;
}

/* Whether the student's outputs are theirs to teach, each class once: what is taught is written over its rows. */
static bool fit_student(const struct teachers *t, const struct teachers_options *o)
{
    for (int i = 0, known = 0; i < t->count; known = t->each[i++].end)
        if (!resnet_same_network(frozen_model(t->each[i].frozen)->net, o->student) ||
            t->each[i].first != known)
            return false;
    return t->each[t->count - 1].end == o->old_classes;
}

static size_t image_floats(const struct teachers *t)
{
    const struct resnet_spec *s = &frozen_model(t->each[0].frozen)->net->spec;
    return (size_t)s->height * s->width * s->channels;
}

static int feature_count(const struct teachers *t)
{
    return frozen_model(t->each[0].frozen)->net->feature_count;
}

static int alloc_chunks(struct teachers *t)
{
    t->workspaces = calloc((size_t)t->member_count, sizeof(struct frozen_workspace *));
    t->own = calloc((size_t)t->member_count * (size_t)(t->heads + 1), sizeof *t->own);
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
    for (int i = 0; i < t->member_count * (t->heads + 1); i++) {
        bool features = i % (t->heads + 1) == t->heads;
        size_t width = (size_t)(features ? feature_count(t) : t->classes);
        t->own[i] = malloc(CHUNK * width * sizeof(float));
        if (!t->own[i])
            return ERR_NOMEM;
    }
    return 0;
}

static int alloc_rows(struct teachers *t, int batch_max)
{
    for (int h = 0; h < t->heads; h++) {
        t->logits[h] = malloc((size_t)batch_max * t->classes * sizeof(float));
        if (!t->logits[h])
            return ERR_NOMEM;
    }
    if (t->base.frozen)
        t->features = malloc((size_t)batch_max * feature_count(t) * sizeof(float));
    return t->base.frozen && !t->features ? ERR_NOMEM : 0;
}

int teachers_new(struct teachers **out, const char *const *paths, int count,
                 const struct teachers_options *o)
{
    struct teachers *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NOMEM;
    int err = ERR_NOMEM, skip = o->which == TEACHERS_LAST ? count - 1 : 0;
    t->count = count - skip;
    t->per_row = o->per_image > 0 && o->per_image < t->count ? o->per_image : t->count;
    t->base_turns = 1;
    while (o->per_image > 0 && t->base_turns < BASE_TURNS &&
           (t->base_turns + 1) * CHUNK <= o->batch_max)
        t->base_turns++;
    t->member_count = o->member_count;
    t->command = o->command;
    t->each = calloc((size_t)t->count, sizeof *t->each);
    if (!t->each)
        goto fail;
    for (int i = 0; i < t->count; i++) {
        err = command_poll(t->command);
        if (err)
            goto fail;
        err = load_teacher(&t->each[i], paths[skip + i], skip + i, o);
        if (err)
            goto fail;
    }
    t->classes = o->old_classes;
    t->heads = o->student->head_count;
    err = fit_student(t, o) ? 0 : ERR_FORMAT;
    if (!err && o->base)
        err = copy_base(t, o);
    if (!err)
        err = alloc_chunks(t);
    if (!err)
        err = alloc_rows(t, o->batch_max);
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
    for (int i = 0; t->own && i < t->member_count * (t->heads + 1); i++)
        free(t->own[i]);
    for (int h = 0; h < t->heads; h++)
        free(t->logits[h]);
    frozen_free(t->base.frozen);
    free(t->features);
    free(t->each);
    free(t->workspaces);
    free(t->own);
    free(t->views);
    free(t);
}

/* One teacher's columns of up to CHUNK gathered images, and the base's features, into the shared rows. */
static void teach(struct teachers *t, int member, const struct teacher *teacher, int n,
                  const int *rows, int heads)
{
    int own_classes = frozen_model(teacher->frozen)->net->spec.classes;
    size_t taught = (size_t)(teacher->end - teacher->first), width = (size_t)feature_count(t);
    float **own = &t->own[member * (t->heads + 1)];
    struct frozen_output out = {.features = teacher == &t->base ? own[t->heads] : NULL};
    for (int h = 0; taught && h < heads; h++)
        out.logits[h] = own[h];
    frozen_forward(teacher->frozen, t->workspaces[member], n, t->views[member], &out);
    for (int h = 0; taught && h < heads; h++)
        for (int i = 0; i < n; i++)
            memcpy(t->logits[h] + (size_t)rows[i] * t->classes + teacher->first,
                   own[h] + (size_t)i * own_classes + teacher->first, taught * sizeof(float));
    for (int i = 0; out.features && i < n; i++)
        memcpy(t->features + (size_t)rows[i] * width, out.features + (size_t)i * width,
               width * sizeof(float));
}

/*
 * A row's place in the turn. CHUNK rows in turn have the same one, so that a teacher's weights come from memory once for all of
 * them; as images are shuffled and batches begin with another place each, every image meets all of them alike.
 */
static int64_t slot(int batch, int at)
{
    return (int64_t)batch + at / CHUNK;
}

static bool row_has_base(const struct teachers *t, int batch, int at)
{
    return t->base.frozen && slot(batch, at) % t->base_turns == 0;
}

/* Whether the row's logits are the base's. */
static bool row_asks_base(const struct teachers *t, int batch, int at)
{
    return t->base.end > 0 && row_has_base(t, batch, at);
}

/* Number of the first snapshot of a row that does not ask the base; the others follow, modulo their number. Chunks that ask the
 * base take no turn, or snapshots whose turn is always theirs would never teach. */
static int first_teacher(const struct teachers *t, int batch, int at)
{
    int64_t turn = slot(batch, at);
    if (t->base.end > 0)
        turn -= turn / t->base_turns + 1;
    return (int)(turn % t->count);
}

static bool row_has_teacher(const struct teachers *t, int batch, int at, int teacher)
{
    return !row_asks_base(t, batch, at) &&
           (teacher - first_teacher(t, batch, at) + t->count) % t->count < t->per_row;
}

enum { BASE = -1 }; /* as number of a teacher */

void teachers_forward(struct teachers *t, int member, int batch, int at, int n, const float *x,
                      bool taps)
{
    size_t image = image_floats(t);
    int heads = taps ? t->heads : 1;
    for (int k = BASE; k < t->count && !command_poll(t->command); k++) {
        const struct teacher *teacher = k == BASE ? &t->base : &t->each[k];
        int rows[CHUNK], gathered = 0;
        for (int i = 0; i < n; i++) {
            if (!(k == BASE ? row_has_base(t, batch, at + i)
                            : row_has_teacher(t, batch, at + i, k)))
                continue;
            memcpy(t->views[member] + gathered * image, x + i * image, image * sizeof *x);
            rows[gathered++] = at + i;
            if (gathered == CHUNK) {
                teach(t, member, teacher, gathered, rows, heads);
                gathered = 0;
            }
        }
        if (gathered)
            teach(t, member, teacher, gathered, rows, heads);
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

int teachers_per_row(const struct teachers *t, int batch, int at)
{
    return row_asks_base(t, batch, at) ? 1 : t->per_row;
}

void teachers_of_row(const struct teachers *t, int batch, int at, int which, int *first, int *end)
{
    const struct teacher *teacher = &t->base;
    if (!row_asks_base(t, batch, at))
        teacher = &t->each[(first_teacher(t, batch, at) + which) % t->count];
    *first = teacher->first;
    *end = teacher->end;
}

float teachers_weight(const struct teachers *t, int batch, int at)
{
    return row_asks_base(t, batch, at) ? 1 : (float)t->count / (float)t->per_row;
}

const float *teachers_features(const struct teachers *t, int batch, int at)
{
    return row_has_base(t, batch, at) ? t->features + (size_t)at * feature_count(t) : NULL;
}

float teachers_features_weight(const struct teachers *t)
{
    return (float)t->base_turns;
}
