/*
 * limits.c - see limits.h.
 */
#include "server/http/limits.h"

#include <string.h>

#include "server/api/events.h"
#include "server/api/format.h"
#include "server/decode/image.h"
#include "server/http/guard.h"
#include "server/http/internal.h"
#include "server/jobs/predictor.h"
#include "server/store/idempotency.h"
#include "server/store/tokens.h"

#define FIXED(function, number)                                                                    \
    static uint64_t function(const struct config *c)                                               \
    {                                                                                              \
        (void)c;                                                                                   \
        return number;                                                                             \
    }
#define CONFIGURED(function, field)                                                                \
    static uint64_t function(const struct config *c)                                               \
    {                                                                                              \
        return (uint64_t)c->field;                                                                 \
    }

CONFIGURED(upload_bytes, max_upload_bytes)
CONFIGURED(image_bytes, max_image_bytes)
CONFIGURED(min_free_bytes, min_free_bytes)
CONFIGURED(queued_jobs, max_queued_jobs)
CONFIGURED(connections, max_connections)
CONFIGURED(address_connections, max_connections_per_address)
CONFIGURED(header_seconds, header_timeout_s)
FIXED(json_bytes, ROUTE_JSON_BYTES)
FIXED(small_json_bytes, ROUTE_SMALL_BYTES)
FIXED(model_bytes, ROUTE_WEIGHTS_BYTES)
FIXED(unread_body_bytes, ROUTE_IGNORED_BYTES)
FIXED(header_bytes, GUARD_HEADER_BYTES)
FIXED(target_bytes, GUARD_URI_BYTES)
FIXED(image_pixels, IMAGE_MAX_PIXELS)
FIXED(image_side, IMAGE_MAX_SIDE)
FIXED(uploads, MAX_UPLOADS)
FIXED(images, PREDICTOR_BATCH)
FIXED(predictions, PREDICTOR_QUEUE)
FIXED(streams, EVENTS_MAX_CLIENTS)
FIXED(tokens, TOKENS_MAX)
FIXED(keys, IDEMPOTENCY_KEYS_MAX)
FIXED(key_seconds, IDEMPOTENCY_SECONDS)
FIXED(page_entries, PAGE_MAX)

#define TOO_LARGE 413, "body_too_large"

const struct limit limits[] = {
    {"upload_bytes", "bytes", TOO_LARGE, "max-upload-bytes", upload_bytes},
    {"image_bytes", "bytes", TOO_LARGE, "max-image-bytes", image_bytes},
    {"image_pixels", "pixels", 0, NULL, NULL, image_pixels},
    {"image_side", "pixels", 0, NULL, NULL, image_side},
    {"model_bytes", "bytes", TOO_LARGE, NULL, model_bytes},
    {"json_bytes", "bytes", TOO_LARGE, NULL, json_bytes},
    {"small_json_bytes", "bytes", TOO_LARGE, NULL, small_json_bytes},
    {"unread_body_bytes", "bytes", TOO_LARGE, NULL, unread_body_bytes},
    {"header_bytes", "bytes", 431, "headers_too_large", NULL, header_bytes},
    {"target_bytes", "bytes", 414, "uri_too_long", NULL, target_bytes},
    {"min_free_bytes", "bytes", 507, "disk_full", "min-free-bytes", min_free_bytes},
    {"queued_jobs", "jobs", 429, "queue_full", "max-queued-jobs", queued_jobs},
    {"waiting_predictions", "requests", 429, "overloaded", NULL, predictions},
    {"images_per_prediction", "images", 0, NULL, NULL, images},
    {"uploads_at_once", "uploads", 503, "too_many_uploads", NULL, uploads},
    {"event_streams", "connections", 429, "too_many_streams", NULL, streams},
    {"connections", "connections", 0, NULL, "max-connections", connections},
    {"connections_per_address", "connections", 0, NULL, "max-connections-per-address",
     address_connections},
    {"header_seconds", "seconds", 0, NULL, "header-timeout", header_seconds},
    {"tokens", "tokens", 409, "too_many_tokens", NULL, tokens},
    {"idempotency_keys", "keys", 429, "too_many_idempotency_keys", NULL, keys},
    {"idempotency_seconds", "seconds", 0, NULL, NULL, key_seconds},
    {"page_entries", "entries", 0, NULL, NULL, page_entries},
    {0},
};

const char *limit_of_code(const char *code)
{
    for (const struct limit *l = limits; l->name; l++) {
        if (l->code && l->status != 413 && strcmp(l->code, code) == 0)
            return l->name;
    }
    return NULL;
}

const char *limit_of_body(const struct route *route)
{
    if (route->body == BODY_NONE)
        return "unread_body_bytes";
    if (route->max_body_bytes == LIMIT_UPLOAD)
        return "upload_bytes";
    if (route->max_body_bytes == LIMIT_IMAGE)
        return "image_bytes";
    if (route->body == BODY_SPOOL)
        return "model_bytes";
    return route->max_body_bytes == ROUTE_SMALL_BYTES ? "small_json_bytes" : "json_bytes";
}
