/*
 * export.c - GET /api/v1/models/{version}/export: a version as a file for other programs.
 *
 * The loop reads the rows, a pool thread loads the model and makes the file, the loop replies. A version whose
 * dense file is gone is rebuilt from its snapshot. The ETag is a hash of the file, so it changes with a class's
 * name too.
 */
#include "server/api/api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/model/retire.h"
#include "server/api/format.h"
#include "server/api/models.h"
#include "server/api/predict.h"
#include "server/app.h"
#include "server/export/onnx.h"
#include "server/export/safetensors.h"
#include "server/http/etag.h"
#include "server/http/http.h"
#include "server/jobs/serving.h"
#include "server/store/versions.h"
#include "server/work.h"

struct format {
    const char *name;
    int (*write)(const struct export_source *s, void **out, size_t *out_bytes);
};

static const struct format formats[] = {
    {"onnx", onnx_write},
    {"safetensors", safetensors_write},
};

struct exporting {
    struct request *req;
    struct app *app;
    const struct format *format;
    struct version version;
    struct class_row *classes;
    int class_count;
    int err;
    void *data;
    size_t size_bytes;
    char etag[ETAG_BYTES];
};

static void exporting_free(struct exporting *e)
{
    free(e->classes);
    free(e->data);
    free(e);
}

/* ---- on the pool ---- */

static int write_file(struct exporting *e, struct model *m, bool from_snapshot)
{
    struct export_source source = {
        .version = e->version.version, .from_snapshot = from_snapshot};
    struct model *live = NULL;
    const char **labels = calloc((size_t)e->class_count + 1, sizeof *labels);
    if (!labels)
        return ERR_NOMEM;
    for (int i = 0; i < e->class_count; i++)
        labels[i] = class_live_name(&e->classes[i]);
    int err = retire_unnamed(m, labels, e->class_count);
    if (!err)
        err = model_live(&live, m);
    for (int i = 0; i < e->class_count; i++)
        if (e->classes[i].position >= 0)
            labels[e->classes[i].position] = e->classes[i].name;
    source.labels = labels;
    source.model = live;
    if (!err)
        err = e->format->write(&source, &e->data, &e->size_bytes);
    model_release(live);
    free(labels);
    return err;
}

static void work(void *ctx)
{
    struct exporting *e = ctx;
    struct model *m = NULL;
    bool from_snapshot;
    e->err = version_load(&m, e->app->config.data_dir, e->version.version, e->app->isa,
                          &from_snapshot);
    if (!e->err)
        e->err = write_file(e, m, from_snapshot);
    if (!e->err)
        etag_make(e->etag, e->data, e->size_bytes);
    model_release(m);
}

/* ---- on the loop ---- */

static void reply_file(struct exporting *e)
{
    char disposition[96];
    reply_header(e->req, "ETag", e->etag);
    snprintf(disposition, sizeof disposition, "attachment; filename=\"accreted-v%" PRId64 ".%s\"",
             e->version.version, e->format->name);
    reply_header(e->req, "Content-Disposition", disposition);
    reply_copy(e->req, 200, "application/octet-stream", e->data, e->size_bytes);
}

static void done(void *ctx)
{
    struct exporting *e = ctx;
    if (e->err == ERR_NOMEM)
        reply_problem(e->req, 503, "no_memory", "Out of memory; try again later.");
    else if (!e->err)
        reply_file(e);
    else if (!reply_classes_changing(e->req))
        reply_problem(e->req, 500, "model_unreadable",
                      "Model version %" PRId64 " cannot be read (%s). Restore models/%" PRId64
                      ", and snapshots/ of the versions before it, of the data directory from a backup.",
                      e->version.version, err_str(e->err), e->version.version);
    exporting_free(e);
}

/* ?format=, onnx without one; NULL: not known. */
static const struct format *find_format(struct request *req)
{
    const char *name = request_query(req, "format");
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (!name || strcmp(name, formats[i].name) == 0)
            return &formats[i];
    return NULL;
}

static int read_rows(struct exporting *e)
{
    struct db_txn *t = db_reader(e->app->db);
    int64_t number;
    if (!parse_id(request_param(e->req, "version"), &number))
        return ERR_MISSING;
    int err = versions_get(t, number, &e->version);
    return err ? err : classes_of(t, number, &e->classes, &e->class_count);
}

static void reply_error(struct request *req, int err)
{
    if (err == ERR_MISSING)
        reply_model_missing(req);
    else if (err == ERR_NOMEM)
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    else
        reply_store_error(req, "The database said", err);
}

void api_models_export(struct request *req)
{
    struct app *app = request_app(req);
    const struct format *format = find_format(req);
    if (!format) {
        reply_problem(req, 400, "bad_query", "'format' must be onnx or safetensors.");
        return;
    }
    struct exporting *e = calloc(1, sizeof *e);
    if (!e) {
        reply_error(req, ERR_NOMEM);
        return;
    }
    *e = (struct exporting){.req = req, .app = app, .format = format};
    int err = read_rows(e);
    if (!err && classes_live(e->classes, e->class_count) == 0) {
        reply_prediction_error(req, ERR_INVALID, e->version.version);
        exporting_free(e);
        return;
    }
    if (!err)
        err = work_run(app->loop, work, done, e);
    if (err) {
        reply_error(req, err);
        exporting_free(e);
    }
}
