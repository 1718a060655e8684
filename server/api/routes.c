/*
 * routes.c - every route of the daemon, in the order of schema/openapi.json.
 */
#include "server/api/routes.h"

#include "server/api/api.h"

#define V1 "/api/v1"
#define JSON_BYTES (1 << 20)

const struct route api_routes[] = {
    {"PUT", V1 "/batches/{name}", BODY_SPOOL, LIMIT_UPLOAD, api_batches_put},
    {"POST", V1 "/batches", BODY_SPOOL, LIMIT_UPLOAD, api_batches_post},
    {"GET", V1 "/batches", BODY_NONE, 0, api_batches_list},
    {"GET", V1 "/batches/{name}", BODY_NONE, 0, api_batches_get},

    {"POST", V1 "/jobs", BODY_MEMORY, JSON_BYTES, api_jobs_post},
    {"GET", V1 "/jobs", BODY_NONE, 0, api_jobs_list},
    {"GET", V1 "/jobs/{id}", BODY_NONE, 0, api_jobs_get},
    {"POST", V1 "/jobs/{id}/cancel", BODY_NONE, 0, api_jobs_cancel},
    {"GET", V1 "/jobs/{id}/metrics", BODY_NONE, 0, api_jobs_metrics},

    {"GET", V1 "/models", BODY_NONE, 0, api_models_list},
    {"GET", V1 "/models/{version}", BODY_NONE, 0, api_models_get},
    {"GET", V1 "/snapshots", BODY_NONE, 0, api_snapshots_list},
    {"GET", V1 "/history", BODY_NONE, 0, api_history_get},
    {"GET", V1 "/classes", BODY_NONE, 0, api_classes_list},

    {"POST", V1 "/predict", BODY_MEMORY, LIMIT_IMAGE, api_predict},

    {"GET", "/healthz", BODY_NONE, 0, api_health},
    {"GET", "/", BODY_NONE, 0, api_page},
    {"GET", "/web/{file}", BODY_NONE, 0, api_asset},
    {0},
};
