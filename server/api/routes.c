/*
 * routes.c - every route of the daemon, in the order of schema/openapi.json.
 *
 * The last column says what token a route needs once there is one. Scope predict predicts and reads
 * what the dashboard shows; it changes nothing and takes no images, weights or tokens along.
 */
#include "server/api/routes.h"

#include "server/api/api.h"

#define V1 "/api/v1"
#define JSON_BYTES ROUTE_JSON_BYTES
#define SMALL_BYTES ROUTE_SMALL_BYTES
#define WEIGHTS_BYTES ROUTE_WEIGHTS_BYTES

const struct route api_routes[] = {
    {"PUT", V1 "/batches/{name}", BODY_SPOOL, LIMIT_UPLOAD, api_batches_put, ACCESS_ADMIN},
    {"POST", V1 "/batches", BODY_SPOOL, LIMIT_UPLOAD, api_batches_post, ACCESS_ADMIN},
    {"GET", V1 "/batches", BODY_NONE, 0, api_batches_list, ACCESS_PREDICT},
    {"GET", V1 "/batches/{name}", BODY_NONE, 0, api_batches_get, ACCESS_PREDICT},
    {"DELETE", V1 "/batches/{name}", BODY_NONE, 0, api_batches_delete, ACCESS_ADMIN},

    {"POST", V1 "/jobs", BODY_MEMORY, JSON_BYTES, api_jobs_post, ACCESS_ADMIN},
    {"GET", V1 "/jobs", BODY_NONE, 0, api_jobs_list, ACCESS_PREDICT},
    {"GET", V1 "/jobs/{id}", BODY_NONE, 0, api_jobs_get, ACCESS_PREDICT},
    {"POST", V1 "/jobs/{id}/cancel", BODY_NONE, 0, api_jobs_cancel, ACCESS_ADMIN},
    {"POST", V1 "/jobs/{id}/retry", BODY_NONE, 0, api_jobs_retry, ACCESS_ADMIN},
    {"GET", V1 "/jobs/{id}/logs", BODY_NONE, 0, api_jobs_logs, ACCESS_PREDICT},
    {"GET", V1 "/jobs/{id}/metrics", BODY_NONE, 0, api_jobs_metrics, ACCESS_PREDICT},

    {"GET", V1 "/events", BODY_NONE, 0, api_events, ACCESS_PREDICT},

    {"GET", V1 "/models", BODY_NONE, 0, api_models_list, ACCESS_PREDICT},
    {"POST", V1 "/models", BODY_SPOOL, WEIGHTS_BYTES, api_models_post, ACCESS_ADMIN},
    {"GET", V1 "/models/{version}", BODY_NONE, 0, api_models_get, ACCESS_PREDICT},
    {"DELETE", V1 "/models/{version}", BODY_NONE, 0, api_models_delete, ACCESS_ADMIN},
    {"POST", V1 "/models/{version}/activate", BODY_NONE, 0, api_models_activate, ACCESS_ADMIN},
    {"GET", V1 "/models/{version}/export", BODY_NONE, 0, api_models_export, ACCESS_ADMIN},
    {"GET", V1 "/snapshots", BODY_NONE, 0, api_snapshots_list, ACCESS_PREDICT},
    {"GET", V1 "/storage", BODY_NONE, 0, api_storage_get, ACCESS_PREDICT},
    {"GET", V1 "/exemplars", BODY_NONE, 0, api_exemplars_get, ACCESS_PREDICT},
    {"DELETE", V1 "/exemplars", BODY_NONE, 0, api_exemplars_delete, ACCESS_ADMIN},
    {"GET", V1 "/history", BODY_NONE, 0, api_history_get, ACCESS_PREDICT},
    {"GET", V1 "/classes", BODY_NONE, 0, api_classes_list, ACCESS_PREDICT},
    {"GET", V1 "/classes/{class}", BODY_NONE, 0, api_classes_get, ACCESS_PREDICT},
    {"PATCH", V1 "/classes/{class}", BODY_MEMORY, SMALL_BYTES, api_classes_rename, ACCESS_ADMIN},
    {"DELETE", V1 "/classes/{class}", BODY_NONE, 0, api_classes_retire, ACCESS_ADMIN},

    {"POST", V1 "/predict", BODY_MEMORY, LIMIT_IMAGE, api_predict, ACCESS_PREDICT},

    {"GET", "/v2", BODY_NONE, 0, api_v2_server, ACCESS_PREDICT},
    {"GET", "/v2/health/live", BODY_NONE, 0, api_v2_live, ACCESS_PREDICT},
    {"GET", "/v2/health/ready", BODY_NONE, 0, api_v2_ready, ACCESS_PREDICT},
    {"GET", "/v2/models/stats", BODY_NONE, 0, api_v2_stats, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}", BODY_NONE, 0, api_v2_model, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}/ready", BODY_NONE, 0, api_v2_model_ready, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}/config", BODY_NONE, 0, api_v2_model_config, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}/stats", BODY_NONE, 0, api_v2_model_stats, ACCESS_PREDICT},
    {"POST", "/v2/models/{model}/infer", BODY_MEMORY, LIMIT_IMAGE, api_v2_infer, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}/versions/{version}", BODY_NONE, 0, api_v2_model, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}/versions/{version}/ready", BODY_NONE, 0,
     api_v2_model_ready, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}/versions/{version}/config", BODY_NONE, 0,
     api_v2_model_config, ACCESS_PREDICT},
    {"GET", "/v2/models/{model}/versions/{version}/stats", BODY_NONE, 0,
     api_v2_model_stats, ACCESS_PREDICT},
    {"POST", "/v2/models/{model}/versions/{version}/infer", BODY_MEMORY, LIMIT_IMAGE,
     api_v2_infer, ACCESS_PREDICT},
    {"POST", "/v2/repository/index", BODY_MEMORY, JSON_BYTES, api_v2_index, ACCESS_PREDICT},
    {"POST", "/v2/repository/models/{model}/load", BODY_MEMORY, JSON_BYTES,
     api_v2_load, ACCESS_ADMIN},
    {"POST", "/v2/repository/models/{model}/unload", BODY_MEMORY, JSON_BYTES,
     api_v2_load, ACCESS_ADMIN},

    {"POST", V1 "/tokens", BODY_MEMORY, SMALL_BYTES, api_tokens_post, ACCESS_ADMIN},
    {"GET", V1 "/tokens", BODY_NONE, 0, api_tokens_list, ACCESS_ADMIN},
    {"DELETE", V1 "/tokens/{id}", BODY_NONE, 0, api_tokens_delete, ACCESS_ADMIN},
    {"POST", V1 "/session", BODY_MEMORY, SMALL_BYTES, api_session_post, ACCESS_OPEN},
    {"GET", V1 "/session", BODY_NONE, 0, api_session_get, ACCESS_OPEN},
    {"DELETE", V1 "/session", BODY_NONE, 0, api_session_delete, ACCESS_OPEN},

    {"GET", "/healthz", BODY_NONE, 0, api_health, ACCESS_OPEN},
    {"GET", V1 "/limits", BODY_NONE, 0, api_limits, ACCESS_PREDICT},
    {"GET", "/metrics", BODY_NONE, 0, api_metrics, ACCESS_PREDICT},
    {"GET", "/openapi.json", BODY_NONE, 0, api_openapi, ACCESS_PREDICT},
    {"GET", "/", BODY_NONE, 0, api_page, ACCESS_OPEN},
    {"GET", "/web/{file}", BODY_NONE, 0, api_asset, ACCESS_OPEN},
    {0},
};
