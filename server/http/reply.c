/*
 * reply.c - replies: built when given, stored in the request, queued by request.c when
 * libmicrohttpd may have them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/app.h"
#include "server/http/etag.h"
#include "server/http/internal.h"
#include "server/http/limits.h"
#include "server/log.h"

enum { DETAIL_BYTES = 1024 };

static const char *title_of(int status)
{
    switch (status) {
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 409: return "Conflict";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 507: return "Insufficient Storage";
    default: return "Error";
    }
}

static bool is_retryable(int status, const char *code)
{
    return strcmp(code, "idempotency_in_flight") == 0 || strcmp(code, "changed_meanwhile") == 0 ||
           status == 408 || status == 429 || status == 503 || status == 507;
}

void reply_header(struct request *req, const char *name, const char *value)
{
    size_t name_bytes = strlen(name) + 1, value_bytes = strlen(value) + 1;
    struct reply_field *f = malloc(sizeof *f + name_bytes + value_bytes);
    if (!f)
        return; /* a reply without it is better than none */
    f->name = (char *)(f + 1);
    f->value = f->name + name_bytes;
    memcpy(f->name, name, name_bytes);
    memcpy(f->value, value, value_bytes);
    f->next = req->fields;
    req->fields = f;
}

/* The value of a header of the reply to come, or NULL. */
static const char *field(const struct request *req, const char *name)
{
    for (const struct reply_field *f = req->fields; f; f = f->next) {
        if (strcasecmp(f->name, name) == 0)
            return f->value;
    }
    return NULL;
}

static void add_fields(const struct request *req, struct MHD_Response *response,
                       const char *content_type)
{
    for (const struct reply_field *f = req->fields; f; f = f->next) {
        if (MHD_add_response_header(response, f->name, f->value) != MHD_YES)
            log_warning("%s: header %s not sent", req->id, f->name);
    }
    if (content_type)
        MHD_add_response_header(response, "Content-Type", content_type);
    MHD_add_response_header(response, "X-Request-Id", req->id);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (!field(req, "Cache-Control"))
        MHD_add_response_header(response, "Cache-Control",
                                field(req, "ETag") ? "private, no-cache" : "no-store");
}

static void keep(struct request *req, int status, const char *content_type,
                 struct MHD_Response *response, size_t size_bytes)
{
    if (response)
        add_fields(req, response, content_type);
    req->lost = !response;
    req->response = response;
    req->response_bytes = size_bytes;
    req->status = status;
}

static bool is_get(const struct request *req)
{
    return strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0;
}

/* Tags what a GET answers; true: the client has it already. */
static bool is_known(struct request *req, int status, const void *data, size_t size_bytes)
{
    char etag[ETAG_BYTES];
    if (status != 200 || !is_get(req))
        return false;
    if (!field(req, "ETag") && strncmp(req->path, "/api/v1/", 8) == 0) {
        etag_make(etag, data, size_bytes);
        if (req->held)
            etag_hold(etag, req->held);
        reply_header(req, "ETag", etag);
    }
    const char *tag = field(req, "ETag");
    const char *known =
        MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, "If-None-Match");
    return tag && known && etag_listed(known, tag, true);
}

/* Stores the reply; the first one stands. Without memory for one the connection is just closed. */
static void store(struct request *req, int status, const char *content_type, const void *data,
                  size_t size_bytes, enum MHD_ResponseMemoryMode mode)
{
    if (req->keyed)
        keyed_note(req, status, content_type, data, size_bytes);
    if (!req->mhd || req->response || req->queued) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free((void *)data);
        return;
    }
    struct MHD_Response *response;
    if (is_known(req, status, data, size_bytes)) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free((void *)data);
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        keep(req, 304, NULL, response, 0);
        return;
    }
    response = MHD_create_response_from_buffer(size_bytes, (void *)data, mode);
    if (!response) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free((void *)data);
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        status = 500;
        size_bytes = 0;
    }
    keep(req, status, content_type, response, size_bytes);
}

void reply_settle(struct request *req)
{
    req->owed = false;
    request_resume(req);
    request_finish(req);
}

/* A reply was given by a handler. */
static void settle(struct request *req)
{
    if (req->keyed)
        keyed_end(req);
    else
        reply_settle(req);
}

/* A detail may quote bytes of the client's; JSON takes UTF-8 only. */
static json_t *make_text(char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    }
    return json_string(text);
}

char *reply_json_text(const json_t *body)
{
    return body ? json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
}

static void store_json(struct request *req, int status, const char *content_type, json_t *body)
{
    char *text = reply_json_text(body);
    json_decref(body);
    if (text)
        store(req, status, content_type, text, strlen(text), MHD_RESPMEM_MUST_FREE);
    else
        store(req, 500, content_type, "{}", 2, MHD_RESPMEM_PERSISTENT);
}

/* Clients of the Open Inference Protocol read an error only from application/json. */
static const char *problem_type(const char *path)
{
    bool inference = strncmp(path, "/v2", 3) == 0 && (path[3] == '/' || path[3] == '\0');
    return inference ? "application/json" : "application/problem+json";
}

static void store_problem(struct request *req, int status, const char *code, char *detail)
{
    char type[96], path[512];
    snprintf(type, sizeof type, "urn:accreted:problem:%s", code);
    snprintf(path, sizeof path, "%s", req->path);
    json_t *text = make_text(detail);
    json_t *body = json_pack("{s:s, s:s, s:i, s:O, s:o, s:s, s:O, s:b, s:s}", "type", type, "title",
                             title_of(status), "status", status, "detail", text, "instance",
                             make_text(path), "code", code, "error", text, "retryable",
                             is_retryable(status, code), "request_id", req->id);
    json_decref(text);
    const char *limit = req->limit ? req->limit : limit_of_code(code);
    if (body && limit)
        json_object_set_new(body, "limit", json_string(limit));
    store_json(req, status, problem_type(req->path), body);
}

void reply_name_limit(struct request *req, const char *limit)
{
    req->limit = limit;
}

void reply_hold(struct request *req, const char *held)
{
    req->held = held;
}

void reply_refuse(struct request *req, int status, const char *code, const char *detail)
{
    char text[DETAIL_BYTES];
    snprintf(text, sizeof text, "%s", detail);
    store_problem(req, status, code, text);
}

void reply_problem(struct request *req, int status, const char *code, const char *detail, ...)
{
    char text[DETAIL_BYTES];
    va_list args;
    va_start(args, detail);
    vsnprintf(text, sizeof text, detail, args);
    va_end(args);
    if (status == 500)
        log_error("%s %s %s: %s: %s", req->id, req->method, req->path, code, text);
    store_problem(req, status, code, text);
    settle(req);
}

void reply_stale(struct request *req)
{
    reply_problem(req, 412, "precondition_failed",
                  "This has changed since: If-Match names another state. Get it anew and decide "
                  "again.");
}

void reply_json(struct request *req, int status, json_t *body)
{
    if (!body) {
        reply_problem(req, 500, "no_memory", "Out of memory while making the reply.");
        return;
    }
    store_json(req, status, "application/json", body);
    settle(req);
}

void reply_copy(struct request *req, int status, const char *content_type, const void *data,
                size_t size_bytes)
{
    store(req, status, content_type, data, size_bytes, MHD_RESPMEM_MUST_COPY);
    settle(req);
}

void reply_static(struct request *req, int status, const char *content_type, const void *data,
                  size_t size_bytes)
{
    store(req, status, content_type, data, size_bytes, MHD_RESPMEM_PERSISTENT);
    settle(req);
}

void reply_response(struct request *req, int status, const char *content_type,
                    struct MHD_Response *response)
{
    keep(req, status, content_type, response, 0);
    settle(req);
}

enum MHD_Result reply_queue(struct request *req)
{
    if (req->close)
        MHD_add_response_header(req->response, "Connection", "close");
    enum MHD_Result queued =
        MHD_queue_response(req->mhd, (unsigned)req->status, req->response);
    connection_send(req->connection, req->response_bytes);
    MHD_destroy_response(req->response);
    req->response = NULL;
    req->queued = true;
    return queued;
}

void reply_release(struct request *req)
{
    if (req->response)
        MHD_destroy_response(req->response);
    for (struct reply_field *f = req->fields, *next; f; f = next) {
        next = f->next;
        free(f);
    }
}
