/*
 * routes.c - every route of the daemon, in the order of schema/openapi.json.
 */
#include "server/api/routes.h"

#include "server/api/api.h"

#define V1 "/api/v1"
#define JSON_BYTES (1 << 20)
#define WEIGHTS_BYTES (128 << 20) /* more than the largest model there can be */

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
    {"POST", V1 "/models", BODY_SPOOL, WEIGHTS_BYTES, api_models_post},
    {"GET", V1 "/models/{version}", BODY_NONE, 0, api_models_get},
    {"GET", V1 "/models/{version}/export", BODY_NONE, 0, api_models_export},
    {"GET", V1 "/snapshots", BODY_NONE, 0, api_snapshots_list},
    {"GET", V1 "/history", BODY_NONE, 0, api_history_get},
    {"GET", V1 "/classes", BODY_NONE, 0, api_classes_list},

    {"POST", V1 "/predict", BODY_MEMORY, LIMIT_IMAGE, api_predict},

    {"GET", "/v2", BODY_NONE, 0, api_v2_server},
    {"GET", "/v2/health/live", BODY_NONE, 0, api_v2_live},
    {"GET", "/v2/health/ready", BODY_NONE, 0, api_v2_ready},
    {"GET", "/v2/models/stats", BODY_NONE, 0, api_v2_stats},
    {"GET", "/v2/models/{model}", BODY_NONE, 0, api_v2_model},
    {"GET", "/v2/models/{model}/ready", BODY_NONE, 0, api_v2_model_ready},
    {"GET", "/v2/models/{model}/config", BODY_NONE, 0, api_v2_model_config},
    {"GET", "/v2/models/{model}/stats", BODY_NONE, 0, api_v2_model_stats},
    {"POST", "/v2/models/{model}/infer", BODY_MEMORY, LIMIT_IMAGE, api_v2_infer},
    {"GET", "/v2/models/{model}/versions/{version}", BODY_NONE, 0, api_v2_model},
    {"GET", "/v2/models/{model}/versions/{version}/ready", BODY_NONE, 0, api_v2_model_ready},
    {"GET", "/v2/models/{model}/versions/{version}/config", BODY_NONE, 0, api_v2_model_config},
    {"GET", "/v2/models/{model}/versions/{version}/stats", BODY_NONE, 0, api_v2_model_stats},
    {"POST", "/v2/models/{model}/versions/{version}/infer", BODY_MEMORY, LIMIT_IMAGE,
     api_v2_infer},
    {"POST", "/v2/repository/index", BODY_MEMORY, JSON_BYTES, api_v2_index},
    {"POST", "/v2/repository/models/{model}/load", BODY_MEMORY, JSON_BYTES, api_v2_load},
    {"POST", "/v2/repository/models/{model}/unload", BODY_MEMORY, JSON_BYTES, api_v2_load},

    {"GET", "/healthz", BODY_NONE, 0, api_health},
    {"GET", "/", BODY_NONE, 0, api_page},
    {"GET", "/web/{file}", BODY_NONE, 0, api_asset},
    {0},
};
