/*
 * predictor.c - see predictor.h.
 *
 * The pool's items are anonymous: each takes one task from the inbox, prepares it, and may stay to
 * classify. So a task is done as soon as it is scored, though the thread that prepared it may still
 * work for others. What is scored comes back to the loop through `finished` and one uv_async_t.
 */
#include "server/jobs/predictor.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/app.h"
#include "server/log.h"
#include "server/store/versions.h"
#include "server/work.h"

struct task_list {
    struct predictor_task *first, *last;
};

/* What one classifying thread works with; it belongs to that thread while it is busy. */
struct lane {
    struct serving *serving; /* held: whose workspace this is */
    struct frozen_workspace *workspace;
    float *x, *scores, *features; /* PREDICTOR_BATCH images of that serving */
};

struct predictor {
    struct app *app;
    struct serving *active;                   /* one reference; NULL before the first version */
    struct serving *others[PREDICTOR_OTHERS]; /* one reference each, latest used first */
    struct predictor_stats *stats; /* of every version that was asked */
    int stats_count, pending;
    uv_async_t wake;

    pthread_mutex_t lock; /* guards the rest */
    struct task_list inbox, ready, finished;
    bool busy[PREDICTOR_LANES]; /* lanes[i] is some thread's */
    struct lane lanes[PREDICTOR_LANES];
};

/* ---- lists ---- */

static void append(struct task_list *list, struct predictor_task *t)
{
    t->next = NULL;
    if (list->first)
        list->last->next = t;
    else
        list->first = t;
    list->last = t;
}

static struct predictor_task *take_first(struct task_list *list)
{
    struct predictor_task *t = list->first;
    if (t)
        list->first = t->next;
    return t;
}

/* ---- classifying (pool threads) ---- */

static void lane_release(struct lane *l)
{
    frozen_workspace_free(l->workspace);
    free(l->x);
    free(l->scores);
    free(l->features);
    serving_release(l->serving);
    *l = (struct lane){0};
}

/* Makes `l` fit to classify for `s`. */
static int lane_fit(struct lane *l, struct serving *s)
{
    if (l->serving == s)
        return 0;
    lane_release(l);
    l->x = malloc(PREDICTOR_BATCH * serving_image_floats(s) * sizeof *l->x);
    l->scores = malloc(PREDICTOR_BATCH * (size_t)s->class_count * sizeof *l->scores);
    l->features = malloc(PREDICTOR_BATCH * serving_feature_count(s) * sizeof *l->features);
    int err = l->x && l->scores && l->features ? frozen_workspace_new(&l->workspace, s->frozen)
                                               : ERR_NOMEM;
    if (err)
        lane_release(l);
    else
        l->serving = serving_hold(s);
    return err;
}

static float *copy_floats(const float *from, size_t count)
{
    float *copy = malloc(count * sizeof *copy);
    return copy ? memcpy(copy, from, count * sizeof *copy) : NULL;
}

/* Gives task `t` its rows of what was computed, from row `at` on. */
static int take_results(struct predictor_task *t, const struct lane *l, int at)
{
    const struct serving *s = t->serving;
    size_t classes = (size_t)s->class_count, count = (size_t)t->count * classes;
    size_t features = serving_feature_count(s);
    t->scores = copy_floats(l->scores + (size_t)at * classes, count);
    t->probabilities = copy_floats(l->scores + (size_t)at * classes, count);
    if (t->want_features)
        t->features = copy_floats(l->features + (size_t)at * features,
                                  (size_t)t->count * features);
    if (!t->scores || !t->probabilities || (t->want_features && !t->features))
        return ERR_NOMEM;
    frozen_softmax(s->frozen, t->count, t->probabilities);
    if (t->features)
        serving_join_features(s, t->count, t->features);
    float scale = frozen_model(s->frozen)->score_scale;
    for (size_t i = 0; i < count; i++)
        t->scores[i] *= scale;
    return t->finish ? t->finish(t) : 0;
}

/* All tasks of `batch`, which are of one serving. */
static void classify(struct lane *l, struct predictor_task *batch)
{
    struct serving *s = batch->serving;
    size_t image = serving_image_floats(s);
    uint64_t taken = uv_hrtime();
    int rows = 0;
    int err = lane_fit(l, s);
    for (struct predictor_task *t = batch; t && !err; t = t->next) {
        memcpy(l->x + (size_t)rows * image, t->x, (size_t)t->count * image * sizeof *l->x);
        rows += t->count;
    }
    if (!err)
        frozen_classify(s->frozen, l->workspace, rows, l->x, NULL, l->scores, l->features);
    uint64_t now = uv_hrtime();
    rows = 0;
    for (struct predictor_task *t = batch; t; t = t->next) {
        t->taken_ns = taken;
        t->scored_ns = now;
        t->err = err ? err : take_results(t, l, rows);
        rows += t->count;
    }
}

/* The oldest ready task and those behind it that may go with it, or NULL. Under the lock. */
static struct predictor_task *take_batch(struct predictor *p)
{
    struct task_list batch = {0};
    int images = 0;
    for (struct predictor_task *t;
         (t = p->ready.first) && images + t->count <= PREDICTOR_BATCH &&
         (!batch.first || t->serving == batch.first->serving);) {
        images += t->count;
        append(&batch, take_first(&p->ready));
    }
    if (batch.first)
        batch.first->leads_batch = true;
    return batch.first;
}

/* Classifies until nothing is ready; the caller holds the lock. */
static void classify_ready(struct predictor *p, int lane)
{
    p->busy[lane] = true;
    for (struct predictor_task *batch; (batch = take_batch(p));) {
        pthread_mutex_unlock(&p->lock);
        classify(&p->lanes[lane], batch);
        pthread_mutex_lock(&p->lock);
        for (struct predictor_task *t = batch, *next; t; t = next) {
            next = t->next;
            append(&p->finished, t);
        }
        uv_async_send(&p->wake);
    }
    p->busy[lane] = false;
}

/* ---- preparing (pool threads) ---- */

float *predictor_task_room(struct predictor_task *t, int count)
{
    t->x = malloc((size_t)count * serving_image_floats(t->serving) * sizeof *t->x);
    return t->x;
}

static int prepare(struct predictor *p, struct predictor_task *t)
{
    int err = 0;
    if (!t->serving)
        err = serving_load(&t->serving, p->app->config.data_dir, t->version,
                           (const char *const *)t->class_names, t->class_count, p->app->isa);
    if (!err)
        err = t->prepare(t);
    t->ready_ns = uv_hrtime();
    return err;
}

/* The number of a lane that is nobody's, or -1. */
static int idle_lane(const struct predictor *p)
{
    for (int i = 0; i < PREDICTOR_LANES; i++) {
        if (!p->busy[i])
            return i;
    }
    return -1;
}

static void work(void *ctx)
{
    struct predictor *p = ctx;
    pthread_mutex_lock(&p->lock);
    struct predictor_task *t = take_first(&p->inbox);
    pthread_mutex_unlock(&p->lock);
    t->err = prepare(p, t);
    pthread_mutex_lock(&p->lock);
    if (t->err || t->count == 0) {
        append(&p->finished, t);
        uv_async_send(&p->wake);
    } else {
        append(&p->ready, t);
        int lane = idle_lane(p);
        if (lane >= 0)
            classify_ready(p, lane);
    }
    pthread_mutex_unlock(&p->lock);
}

static void work_done(void *ctx)
{
    (void)ctx; /* the task has its own way back */
}

/* ---- the loop's part ---- */

static void names_free(char **names, int count)
{
    for (int i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
}

static void free_names(struct predictor_task *t)
{
    names_free(t->class_names, t->class_count);
    t->class_names = NULL;
}

/* The cached version `version`, now the latest used, or NULL. */
static struct serving *find_other(struct predictor *p, int64_t version)
{
    for (int i = 0; i < PREDICTOR_OTHERS && p->others[i]; i++) {
        struct serving *s = p->others[i];
        if (s->version != version)
            continue;
        memmove(&p->others[1], &p->others[0], (size_t)i * sizeof p->others[0]);
        p->others[0] = s;
        return s;
    }
    return NULL;
}

static void cache_other(struct predictor *p, struct serving *s)
{
    if (find_other(p, s->version))
        return; /* two tasks loaded it at once */
    serving_release(p->others[PREDICTOR_OTHERS - 1]);
    memmove(&p->others[1], &p->others[0], (PREDICTOR_OTHERS - 1) * sizeof p->others[0]);
    p->others[0] = serving_hold(s);
}

/* The row of `version`; NULL when memory is short. */
static struct predictor_stats *stats_row(struct predictor *p, int64_t version)
{
    for (int i = 0; i < p->stats_count; i++) {
        if (p->stats[i].version == version)
            return &p->stats[i];
    }
    struct predictor_stats *more =
        realloc(p->stats, ((size_t)p->stats_count + 1) * sizeof *p->stats);
    if (!more)
        return NULL;
    p->stats = more;
    p->stats[p->stats_count] = (struct predictor_stats){.version = version};
    return &p->stats[p->stats_count++];
}

static void account(struct predictor *p, const struct predictor_task *t)
{
    uint64_t now = uv_hrtime();
    struct predictor_stats *row = stats_row(p, t->serving ? t->serving->version : t->version);
    p->pending--;
    if (!row)
        return;
    row->last_ms = db_now_ms();
    row->batches += t->leads_batch;
    if (t->err || t->count == 0) {
        row->failed_tasks++;
        row->failed_ns += now - t->submitted_ns;
        return;
    }
    row->tasks++;
    row->images += (uint64_t)t->count;
    row->task_ns += now - t->submitted_ns;
    row->prepare_ns += t->ready_ns - t->submitted_ns;
    row->queue_ns += t->taken_ns - t->ready_ns;
    row->classify_ns += t->scored_ns - t->taken_ns;
    row->reply_ns += now - t->scored_ns;
}

static void on_wake(uv_async_t *handle)
{
    struct predictor *p = handle->data;
    pthread_mutex_lock(&p->lock);
    struct predictor_task *t = p->finished.first;
    p->finished.first = NULL;
    pthread_mutex_unlock(&p->lock);
    for (struct predictor_task *next; t; t = next) {
        next = t->next;
        account(p, t);
        if (!t->serving && !p->app->class_changes) /* else it may be well (api/predict.h) */
            log_error("model version %" PRId64 " cannot be loaded: %s", t->version,
                      err_str(t->err));
        if (t->class_names && t->serving && serving_current(t->serving, db_reader(p->app->db)))
            cache_other(p, t->serving);
        free_names(t);
        t->done(t);
    }
}

/* The names of version `v`'s classes, NULL for those that are retired, into names[0 .. v->classes-1].
 * ERR_INVALID: all are. */
static int copy_names(struct predictor *p, const struct version *v, char ***out)
{
    struct class_row *rows = NULL;
    int count = 0;
    char **names = calloc((size_t)v->classes, sizeof *names);
    int err = names ? classes_of(db_reader(p->app->db), v->version, &rows, &count) : ERR_NOMEM;
    if (!err && count < v->classes)
        err = ERR_CORRUPT;
    if (!err && classes_live(rows, count) == 0)
        err = ERR_INVALID;
    for (int i = 0; i < v->classes && !err; i++) {
        if (rows[i].position < 0)
            continue;
        names[i] = strdup(rows[i].name);
        err = names[i] ? 0 : ERR_NOMEM;
    }
    free(rows);
    if (err)
        names_free(names, v->classes);
    else
        *out = names;
    return err;
}

/* Gives the task the serving of `version`, or what is needed to load it. */
static int choose_serving(struct predictor *p, struct predictor_task *t, int64_t version)
{
    struct version v;
    bool active = p->active && (version == 0 || p->active->version == version);
    struct serving *s = active ? p->active : find_other(p, version);
    if (s) {
        t->serving = serving_hold(s);
        return 0;
    }
    if (version == 0)
        return ERR_MISSING;
    int err = versions_get(db_reader(p->app->db), version, &v);
    if (!err)
        err = copy_names(p, &v, &t->class_names);
    if (!err)
        t->class_count = v.classes;
    return err;
}

int predictor_submit(struct predictor *p, struct predictor_task *t, int64_t version)
{
    if (p->pending >= PREDICTOR_QUEUE)
        return ERR_NOSPACE;
    t->version = version;
    t->submitted_ns = uv_hrtime();
    int err = choose_serving(p, t, version);
    if (err)
        return err;
    pthread_mutex_lock(&p->lock);
    err = work_run(p->app->loop, work, work_done, p);
    if (!err)
        append(&p->inbox, t);
    pthread_mutex_unlock(&p->lock);
    if (err) {
        free_names(t);
        serving_release(t->serving);
        t->serving = NULL;
        return err;
    }
    p->pending++;
    return 0;
}

void predictor_task_release(struct predictor_task *t)
{
    serving_release(t->serving);
    free(t->x);
    free(t->scores);
    free(t->probabilities);
    free(t->features);
}

void predictor_stats(const struct predictor *p, int64_t version, struct predictor_stats *out)
{
    *out = (struct predictor_stats){.version = version};
    for (int i = 0; i < p->stats_count; i++) {
        const struct predictor_stats *row = &p->stats[i];
        if (version != 0 && row->version != version)
            continue;
        out->tasks += row->tasks;
        out->failed_tasks += row->failed_tasks;
        out->images += row->images;
        out->batches += row->batches;
        out->task_ns += row->task_ns;
        out->failed_ns += row->failed_ns;
        out->prepare_ns += row->prepare_ns;
        out->queue_ns += row->queue_ns;
        out->classify_ns += row->classify_ns;
        out->reply_ns += row->reply_ns;
        out->last_ms = out->last_ms > row->last_ms ? out->last_ms : row->last_ms;
    }
}

int predictor_pending(const struct predictor *p)
{
    return p->pending;
}

/* ---- the active one ---- */

int predictor_start(struct predictor *p)
{
    struct version v;
    char **names;
    int err = versions_active(db_reader(p->app->db), &v);
    if (err == ERR_MISSING)
        return 0;
    if (!err)
        err = copy_names(p, &v, &names);
    if (err)
        return err;
    err = serving_load(&p->active, p->app->config.data_dir, v.version, (const char *const *)names,
                       v.classes, p->app->isa);
    if (err)
        log_error("model version %" PRId64 " cannot be loaded: %s", v.version, err_str(err));
    names_free(names, v.classes);
    return err;
}

void predictor_forget(struct predictor *p, int64_t version)
{
    if (!find_other(p, version)) /* moves it to the front */
        return;
    serving_release(p->others[0]);
    memmove(&p->others[0], &p->others[1], (PREDICTOR_OTHERS - 1) * sizeof p->others[0]);
    p->others[PREDICTOR_OTHERS - 1] = NULL;
}

void predictor_swap(struct predictor *p, struct serving *s)
{
    serving_release(p->active);
    p->active = s;
    predictor_forget(p, s->version); /* a later `other` may have to come from its snapshot */
    log_info("version %" PRId64 " serves %d classes", s->version, s->class_count);
}

/* ---- classes that changed ---- */

struct reload {
    struct predictor *p;
    struct version version;
    char **names;
    int err;
    struct serving *serving;
};

static void run_reload(void *ctx)
{
    struct reload *r = ctx;
    r->err = serving_load(&r->serving, r->p->app->config.data_dir, r->version.version,
                          (const char *const *)r->names, r->version.classes, r->p->app->isa);
}

static void reload_free(struct reload *r)
{
    names_free(r->names, r->version.classes);
    free(r);
}

static void reloaded(void *ctx)
{
    struct reload *r = ctx;
    if (r->err)
        log_error("model version %" PRId64 " cannot be loaded: %s", r->version.version,
                  err_str(r->err));
    else
        predictor_swap_committed(r->p, r->serving); /* looks again */
    reload_free(r);
}

/* Loads the active version with what its classes are called now. */
static int reload_active(struct predictor *p)
{
    struct reload *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_NOMEM;
    r->p = p;
    int err = versions_active(db_reader(p->app->db), &r->version);
    if (!err)
        err = copy_names(p, &r->version, &r->names);
    if (!err)
        err = work_run(p->app->loop, run_reload, reloaded, r);
    if (err)
        reload_free(r);
    return err;
}

void predictor_classes_changed(struct predictor *p)
{
    for (int i = 0; i < PREDICTOR_OTHERS; i++) {
        serving_release(p->others[i]);
        p->others[i] = NULL;
    }
    if (!p->active || serving_current(p->active, db_reader(p->app->db)))
        return;
    int err = reload_active(p); /* it was activated just between */
    if (err)
        log_error("the active version cannot be loaded with its new names: %s", err_str(err));
}

void predictor_swap_committed(struct predictor *p, struct serving *s)
{
    struct version v;
    if (versions_active(db_reader(p->app->db), &v) == 0 && v.version == s->version) {
        predictor_swap(p, s);
        if (!serving_current(s, db_reader(p->app->db)))
            predictor_classes_changed(p);
    } else {
        serving_release(s);
    }
}

struct serving *predictor_active(struct predictor *p)
{
    return p->active ? serving_hold(p->active) : NULL;
}

/* ---- life ---- */

int predictor_new(struct predictor **out, struct app *app)
{
    struct predictor *p = calloc(1, sizeof *p);
    if (!p)
        return ERR_NOMEM;
    p->app = app;
    p->wake.data = p;
    if (uv_async_init(app->loop, &p->wake, on_wake) != 0) {
        free(p);
        return ERR_NOMEM;
    }
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct predictor *p = handle->data;
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void predictor_free(struct predictor *p)
{
    if (!p)
        return;
    for (int i = 0; i < PREDICTOR_LANES; i++)
        lane_release(&p->lanes[i]);
    for (int i = 0; i < PREDICTOR_OTHERS; i++)
        serving_release(p->others[i]);
    serving_release(p->active);
    free(p->stats);
    uv_close((uv_handle_t *)&p->wake, on_closed);
}
