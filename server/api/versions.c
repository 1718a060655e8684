/*
 * versions.c - POST /api/v1/models/{version}/activate and DELETE of a version: back a step, or on to
 * one that was held back; and off with one that nobody needs.
 *
 *   activate (loop)  known? active already: 200 at once
 *   load (pool)      the model, from its dense file or out of its snapshot
 *   write (db)       it is the active one; training images of a job that had not published are used
 *                    up now
 *   done (loop)      predictions swap to it, atomically; files that are done with go on the pool
 *
 * A version that cannot be loaded never becomes active.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/api/models.h"
#include "server/api/predict.h"
#include "server/app.h"
#include "server/http/etag.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/jobs/predictor.h"
#include "server/log.h"
#include "server/store/jobs.h"
#include "server/store/versions.h"
#include "server/work.h"

enum { PATH_BYTES = 4400 };

static void reply_error(struct request *req, int err)
{
    if (err == ERR_MISSING)
        reply_model_missing(req);
    else if (err == ERR_NOMEM)
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    else
        reply_store_error(req, "The database said", err);
}

/* ERR_INVALID: If-Match names what GET does not answer any longer; then *stale. */
static int check_seen(struct db_txn *t, const struct version *v, const char *if_match, bool *stale)
{
    int err = 0;
    json_t *model = if_match ? model_json(t, v, &err) : NULL;
    if (err || !if_match)
        return err;
    *stale = !etag_allows(if_match, model);
    return *stale ? ERR_INVALID : 0;
}

/* ---- activate ---- */

struct activating {
    struct request *req;
    const char *if_match; /* the request's */
    bool stale;
    struct app *app;
    struct version version;
    struct class_row *classes;
    int class_count;
    int err; /* of loading */
    struct serving *serving;
    struct batch *consumed; /* owned; whose training images are to go */
    int consumed_count;
};

static void activating_free(struct activating *a)
{
    free(a->classes);
    serving_release(a->serving);
    batches_release(a->consumed, a->consumed_count);
    free(a);
}

static void run_load(void *ctx)
{
    struct activating *a = ctx;
    const char **names = calloc((size_t)a->class_count + 1, sizeof *names);
    if (!names) {
        a->err = ERR_NOMEM;
        return;
    }
    for (int i = 0; i < a->class_count; i++)
        names[i] = class_live_name(&a->classes[i]);
    a->err = serving_load(&a->serving, a->app->config.data_dir, a->version.version, names,
                          a->class_count, a->app->isa);
    free(names);
}

/* ERR_INVALID: all of its classes are retired, maybe just now. */
static int check_not_empty(struct db_txn *t, const struct activating *a)
{
    struct class_row *classes;
    int count;
    int err = classes_of(t, a->version.version, &classes, &count);
    if (err)
        return err;
    err = classes_live(classes, count) ? 0 : ERR_INVALID;
    free(classes);
    return err;
}

static int write_activation(struct db_txn *t, void *ctx)
{
    struct activating *a = ctx;
    struct version v;
    int err = versions_get(t, a->version.version, &v);
    if (!err)
        err = check_seen(t, &v, a->if_match, &a->stale);
    if (!err)
        err = check_not_empty(t, a);
    if (!err)
        err = versions_activate(t, a->version.version);
    if (!err)
        err = jobs_consume(t, a->version.job, a->version.version);
    return err ? err
               : batches_load_consumed(t, a->version.version, &a->consumed, &a->consumed_count);
}

static void run_delete_training(void *ctx)
{
    struct activating *a = ctx;
    for (int i = 0; i < a->consumed_count; i++)
        data_delete_training(a->app->config.data_dir, &a->consumed[i]);
}

static void training_deleted(void *ctx)
{
    struct activating *a = ctx;
    reply_model(a->req, 200, a->version.version);
    activating_free(a);
}

static void activated(void *ctx, int status)
{
    struct activating *a = ctx;
    if (status) {
        if (a->stale)
            reply_stale(a->req);
        else if (status == ERR_INVALID)
            reply_prediction_error(a->req, status, a->version.version);
        else
            reply_error(a->req, status);
        activating_free(a);
        return;
    }
    predictor_swap_committed(a->app->predictor, a->serving);
    a->serving = NULL;
    if (work_run(a->app->loop, run_delete_training, training_deleted, a) != 0)
        training_deleted(a); /* the next start deletes them */
}

static void loaded(void *ctx)
{
    struct activating *a = ctx;
    int64_t number = a->version.version;
    int err = a->err;
    if (!err && db_write(a->app->db, write_activation, activated, a) == 0)
        return;
    if (!err || err == ERR_NOMEM)
        reply_error(a->req, ERR_NOMEM);
    else if (!reply_classes_changing(a->req))
        reply_problem(a->req, 500, "model_unreadable",
                      "Model version %" PRId64 " cannot be read (%s), so the active one stays. "
                      "Restore models/%" PRId64 " or snapshots/%" PRId64
                      ", and those of the versions before it, of the data directory from a backup.",
                      number, err_str(err), number, number);
    activating_free(a);
}

void api_models_activate(struct request *req)
{
    struct app *app = request_app(req);
    struct db_txn *t = db_reader(app->db);
    int64_t number;
    struct activating *a = calloc(1, sizeof *a);
    int err = a ? 0 : ERR_NOMEM;
    if (!err)
        err = parse_id(request_param(req, "version"), &number)
                  ? versions_get(t, number, &a->version)
                  : ERR_MISSING;
    if (!err) {
        a->if_match = request_header(req, "If-Match");
        err = check_seen(t, &a->version, a->if_match, &a->stale);
    }
    if (!err && a->version.active) {
        reply_model(req, 200, number);
        free(a);
        return;
    }
    if (!err)
        err = classes_of(t, number, &a->classes, &a->class_count);
    if (!err && classes_live(a->classes, a->class_count) == 0) {
        reply_prediction_error(req, ERR_INVALID, number);
        activating_free(a);
        return;
    }
    if (!err) {
        a->req = req;
        a->app = app;
        err = work_run(app->loop, run_load, loaded, a);
    }
    if (err) {
        if (a && a->stale)
            reply_stale(req);
        else
            reply_error(req, err);
        if (a)
            activating_free(a);
    }
}

/* ---- discard ---- */

struct discarding {
    struct request *req;
    const char *if_match; /* the request's */
    bool stale;
    struct version version;
    struct class_row *classes;
    int class_count;
    struct app *app;
    int64_t freed_bytes;
};

static void discarding_free(struct discarding *d)
{
    free(d->classes);
    free(d);
}

static int write_discard(struct db_txn *t, void *ctx)
{
    struct discarding *d = ctx;
    int err = versions_get(t, d->version.version, &d->version);
    if (!err)
        err = check_seen(t, &d->version, d->if_match, &d->stale);
    return err ? err : versions_discard(t, d->version.version);
}

/* Deletes a file; its bytes. What stays for a failure is swept at the next start. */
static int64_t delete_file(struct app *app, const char *folder, int64_t version)
{
    char path[PATH_BYTES];
    struct stat st;
    data_path_number(path, sizeof path, app->config.data_dir, folder, version);
    if (stat(path, &st) != 0)
        return 0;
    if (unlink(path) == 0)
        return st.st_size;
    log_warning("%s/%" PRId64 " could not be deleted now (%m); the next start tries again", folder,
                version);
    return 0;
}

/* What it alone knew, and what stays of it. */
static json_t *discarded_json(const struct discarding *d)
{
    json_t *names = json_array();
    int64_t test_images = 0;
    for (int i = 0; i < d->class_count; i++) {
        if (d->classes[i].position < 0)
            continue;
        json_array_append_new(names, json_string(d->classes[i].name));
        test_images += d->classes[i].test_images;
    }
    return json_pack("{s:I, s:I, s:o, s:I, s:s}", "version", (json_int_t)d->version.version,
                     "freed_bytes", (json_int_t)d->freed_bytes, "forgotten_classes", names,
                     "test_images_kept", (json_int_t)test_images, "remains",
                     d->version.published
                         ? "Job, curves and measurements stay as history, test images until their "
                           "batch is deleted, and exemplars until the next job publishes or "
                           "DELETE /api/v1/exemplars."
                         : "Job, curves and measurements stay as history, test images until their "
                           "batch is deleted, and training images until then or until another "
                           "version learns them. Its exemplars are gone.");
}

static void reply_kept(struct request *req, const struct version *v)
{
    if (v->active)
        reply_problem(req, 409, "version_active",
                      "Version %" PRId64 " serves. Activate another one first.", v->version);
    else if (v->children > 0)
        reply_problem(req, 409, "version_has_children",
                      "%d versions build on version %" PRId64 ", and its snapshot teaches those to "
                      "come. Discard them first.",
                      v->children, v->version);
    else
        reply_problem(req, 409, "version_in_use",
                      "A running job builds on version %" PRId64 ". Cancel it, or wait.",
                      v->version);
}

static void run_delete_files(void *ctx)
{
    struct discarding *d = ctx;
    d->freed_bytes = delete_file(d->app, "models", d->version.version) +
                     delete_file(d->app, "snapshots", d->version.version);
    if (!d->version.published) /* else a step back replays them: server/jobs/data.h */
        d->freed_bytes += delete_file(d->app, "exemplars", d->version.version);
}

static void files_deleted(void *ctx)
{
    struct discarding *d = ctx;
    log_info("version %" PRId64 " was discarded", d->version.version);
    reply_json(d->req, 200, discarded_json(d));
    discarding_free(d);
}

static void discarded(void *ctx, int status)
{
    struct discarding *d = ctx;
    if (status == 0) {
        predictor_forget(d->app->predictor, d->version.version);
        if (work_run(d->app->loop, run_delete_files, files_deleted, d) != 0)
            files_deleted(d); /* the next start deletes them */
        return;
    }
    if (d->stale)
        reply_stale(d->req);
    else if (status == ERR_INVALID)
        reply_kept(d->req, &d->version);
    else
        reply_error(d->req, status);
    discarding_free(d);
}

/* The classes that it knows and no other version does: of its step, for its parent knows the others. */
static int load_own_classes(struct db_txn *t, struct discarding *d)
{
    struct class_row *classes;
    int count, own = 0;
    bool elsewhere = false;
    int err = versions_get(t, d->version.version, &d->version);
    if (!err)
        err = classes_of(t, d->version.version, &classes, &count);
    if (err)
        return err;
    for (int i = 0; i < count; i++)
        if (classes[i].step == d->version.step)
            classes[own++] = classes[i];
    if (own > 0) /* one version brought them all */
        err = classes_known_beside(t, classes[0].id, d->version.version, &elsewhere);
    d->classes = classes;
    d->class_count = elsewhere ? 0 : own;
    return err;
}

void api_models_delete(struct request *req)
{
    struct app *app = request_app(req);
    struct discarding *d = calloc(1, sizeof *d);
    int err = d ? 0 : ERR_NOMEM;
    if (!err && !parse_id(request_param(req, "version"), &d->version.version))
        err = ERR_MISSING;
    if (!err) {
        d->req = req;
        d->app = app;
        d->if_match = request_header(req, "If-Match");
        err = load_own_classes(db_reader(app->db), d);
    }
    if (!err)
        err = db_write(app->db, write_discard, discarded, d);
    if (err) {
        reply_error(req, err);
        if (d)
            discarding_free(d);
    }
}
