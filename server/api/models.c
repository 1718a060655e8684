/*
 * models.c - /api/v1/models and /api/v1/snapshots: the published versions, two views of one row.
 */
#include "server/api/models.h"

#include <stdlib.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/store/versions.h"

/* NULL: `err` says why, or memory ran out. */
typedef json_t *(*version_json_fn)(struct db_txn *t, const struct version *v, int *err);

static json_t *names_json(const struct class_row *classes, int count)
{
    json_t *names = json_array();
    for (int i = 0; i < count; i++)
        if (classes[i].position >= 0)
            json_array_append_new(names, json_string(classes[i].name));
    return names;
}

/* What serves, or would once it is activated, with the accuracy that was measured on just that. */
json_t *model_json(struct db_txn *t, const struct version *v, int *err)
{
    struct class_row *classes;
    int count;
    char *gate;
    *err = classes_of(t, v->version, &classes, &count);
    if (*err)
        return NULL;
    *err = versions_gate(t, v->version, &gate);
    if (*err) {
        free(classes);
        return NULL;
    }
    bool dense = v->active ? !v->from_snapshot : v->dense_kept;
    json_t *o = json_pack(
        "{s:I, s:o, s:o, s:i, s:I, s:i, s:b, s:b, s:o, s:i, s:o, s:i, s:o, s:I, s:s, s:o, s:o, s:f}",
        "version", (json_int_t)v->version, "parent", format_id(v->parent), "refines",
        format_id(v->refines), "children", v->children, "job",
        (json_int_t)v->job, "step", v->step, "active", (int)v->active, "published",
        (int)v->published, "gate", format_stored(gate), "classes", classes_live(classes, count), "class_names", names_json(classes, count),
        "experts", v->experts, "created", format_time(v->created_ms), "model_bytes",
        (json_int_t)(v->dense_kept ? v->model_bytes : 0), "weights",
        dense ? "dense" : "snapshot", "accuracy", format_real(v->accuracy_dense),
        "serving_accuracy", format_real(dense ? v->accuracy_dense : v->accuracy_pruned),
        "train_seconds", v->train_seconds);
    free(classes);
    free(gate);
    return o;
}

static json_t *snapshot_json(struct db_txn *t, const struct version *v, int *err)
{
    (void)t;
    *err = 0;
    return json_pack("{s:I, s:i, s:s, s:I, s:I, s:f, s:f, s:o, s:o, s:o, s:o}", "version",
                     (json_int_t)v->version, "step", v->step, "store",
                     v->shared ? "shared" : "standalone", "bytes",
                     (json_int_t)v->snapshot_bytes, "dense_bytes", (json_int_t)v->dense_bytes,
                     "share", (double)v->snapshot_bytes / (double)v->dense_bytes, "sparsity",
                     v->sparsity, "accuracy_dense", format_real(v->accuracy_dense),
                     "accuracy_pruned", format_real(v->accuracy_pruned), "accuracy_lost",
                     format_real(v->accuracy_dense - v->accuracy_pruned), "created",
                     format_time(v->created_ms));
}

void reply_model_missing(struct request *req)
{
    reply_problem(req, 404, "model_not_found",
                  "There is no model version '%.40s'. GET /api/v1/models lists them.",
                  request_param(req, "version"));
}

static void reply_list(struct request *req, const char *key, version_json_fn to_json)
{
    struct db_txn *t = db_reader(request_app(req)->db);
    struct version *versions = NULL;
    int64_t before;
    int limit, count = 0;
    if (!format_page(req, &before, &limit))
        return;
    int err = versions_list(t, before, limit + 1, &versions, &count);
    int shown = count < limit ? count : limit;
    json_t *list = json_array();
    for (int i = 0; i < shown && !err; i++)
        json_array_append_new(list, to_json(t, &versions[i], &err));
    if (err) {
        reply_store_error(req, "The database said", err);
        json_decref(list);
    } else {
        json_t *next = count > limit ? format_token(req, versions[shown - 1].version) : json_null();
        reply_json(req, 200, json_pack("{s:o, s:o}", key, list, "next_page_token", next));
    }
    free(versions);
}

void api_models_list(struct request *req)
{
    reply_list(req, "models", model_json);
}

void api_snapshots_list(struct request *req)
{
    reply_list(req, "snapshots", snapshot_json);
}

void reply_model(struct request *req, int status, int64_t version)
{
    struct db_txn *t = db_reader(request_app(req)->db);
    struct version v;
    json_t *model = NULL;
    int err = versions_get(t, version, &v);
    if (!err)
        model = model_json(t, &v, &err);
    if (err == ERR_MISSING)
        reply_model_missing(req);
    else if (err)
        reply_store_error(req, "The database said", err);
    else
        reply_json(req, status, model);
}

void api_models_get(struct request *req)
{
    int64_t number;
    if (parse_id(request_param(req, "version"), &number))
        reply_model(req, 200, number);
    else
        reply_model_missing(req);
}
