/*
 * storage.c - GET /api/v1/storage: what is kept, in bytes, and what the disk has left. Exemplars
 * have no row: their files are counted on the pool.
 */
#include <stdlib.h>
#include <sys/statvfs.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/jobs/predictor.h"
#include "server/jobs/serving.h"
#include "server/store/totals.h"
#include "server/work.h"

struct counting {
    struct request *req;
    struct app *app;
    struct totals totals;
    struct data_exemplars_total exemplars;
    int err;
};

static json_t *total_json(struct total total)
{
    return json_pack("{s:I, s:I}", "count", (json_int_t)total.count, "bytes",
                     (json_int_t)total.bytes);
}

/* Class means of the features, inside the model that serves. */
static struct total prototypes(struct app *app, const struct totals *totals)
{
    struct serving *s = predictor_active(app->predictor);
    if (!s)
        return (struct total){0};
    int64_t bytes = totals->classes * (int64_t)(serving_feature_count(s) * sizeof(float));
    serving_release(s);
    return (struct total){totals->classes, bytes};
}

/* null where the file system does not say. */
static json_t *disk_json(const struct config *config)
{
    struct statvfs fs;
    if (statvfs(config->data_dir, &fs) != 0)
        return json_null();
    return json_pack("{s:I, s:I, s:I}", "free_bytes", (json_int_t)fs.f_bavail * fs.f_frsize,
                     "total_bytes", (json_int_t)fs.f_blocks * fs.f_frsize, "reserve_bytes",
                     (json_int_t)config->min_free_bytes);
}

static void work(void *ctx)
{
    struct counting *c = ctx;
    c->err = data_exemplars_count(c->app->config.data_dir, 0, &c->exemplars);
}

static void reply_unreadable(struct request *req, int err)
{
    reply_problem(req, 500, "internal_error", "The store cannot be read: %s. See the log.",
                  err_str(err));
}

static void done(void *ctx)
{
    struct counting *c = ctx;
    const struct totals *totals = &c->totals;
    struct total exemplars = {c->exemplars.images, c->exemplars.bytes};
    if (c->err)
        reply_unreadable(c->req, c->err);
    else
        reply_json(c->req, 200,
                   json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "disk",
                             disk_json(&c->app->config), "test_images",
                             total_json(totals->test_images), "training_images",
                             total_json(totals->training_images), "exemplars",
                             total_json(exemplars), "snapshots", total_json(totals->snapshots),
                             "models", total_json(totals->models), "prototypes",
                             total_json(prototypes(c->app, totals)), "database_bytes",
                             (json_int_t)totals->database_bytes));
    free(c);
}

void api_storage_get(struct request *req)
{
    struct app *app = request_app(req);
    struct counting *c = calloc(1, sizeof *c);
    int err = c ? totals_read(db_reader(app->db), &c->totals) : ERR_NOMEM;
    if (!err) {
        c->req = req;
        c->app = app;
        err = work_run(app->loop, work, done, c);
    }
    if (!err)
        return;
    free(c);
    if (err == ERR_NOMEM)
        reply_problem(req, 503, "no_memory", "Memory ran out. Try again.");
    else
        reply_unreadable(req, err);
}
