/*
 * request.c - the life of a request, from its headers to its end, and what a handler may ask of it.
 *
 * libmicrohttpd calls request_access after the headers, for every piece of body, at the end of the
 * body, and again after every resume.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/app.h"
#include "server/http/auth.h"
#include "server/http/guard.h"
#include "server/http/internal.h"
#include "server/log.h"

/* ---- beginning and end ---- */

static struct request *request_new(struct http *h, struct MHD_Connection *mhd, const char *url,
                                   const char *method)
{
    struct connection *c = connection_of(mhd);
    struct request *req = c ? calloc(1, sizeof *req) : NULL;
    if (!req)
        return NULL;
    *req = (struct request){.http = h, .app = h->app, .connection = c, .mhd = mhd};
    req->began_ns = uv_hrtime();
    snprintf(req->id, sizeof req->id, "%08x-%08x", h->id_prefix, ++h->id_count);
    req->method = strdup(method);
    req->path = strdup(url);
    if (!req->method || !req->path) {
        free(req->method);
        free(req->path);
        free(req);
        return NULL;
    }
    req->next = h->requests;
    if (req->next)
        req->next->prev = req;
    h->requests = req;
    return req;
}

static void request_free(struct request *req)
{
    body_release(req);
    reply_release(req);
    for (struct kept *k = req->kept, *next; k; k = next) {
        next = k->next;
        free(k);
    }
    free(req->method);
    free(req->path);
    free(req);
}

static void unlink_request(struct request *req)
{
    if (req->next)
        req->next->prev = req->prev;
    if (req->prev)
        req->prev->next = req->next;
    else
        req->http->requests = req->next;
}

void request_finish(struct request *req)
{
    if (req->mhd || req->owed)
        return;
    unlink_request(req);
    request_free(req);
}

void request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                       enum MHD_RequestTerminationCode toe)
{
    (void)cls;
    (void)mhd;
    struct request *req = *con_cls;
    if (!req)
        return;
    *con_cls = NULL;
    log_debug("%s %s %s: %d%s", req->id, req->method, req->path, req->status,
              toe == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : ", not completed");
    traffic_note(req);
    connection_enter(req->connection, CONNECTION_WAITING);
    if (req->connection->stream)
        stream_detach(req->connection->stream);
    req->connection->stream = NULL;
    req->connection = NULL;
    req->mhd = NULL;
    request_finish(req);
}

/* ---- libmicrohttpd's calls ---- */

static enum MHD_Result suspend(struct request *req)
{
    if (req->http->stopping)
        return MHD_NO; /* nobody would resume it */
    req->connection->suspended = true;
    MHD_suspend_connection(req->mhd);
    return MHD_YES;
}

void request_resume(struct request *req)
{
    if (!req->mhd || !req->connection->suspended)
        return;
    req->connection->suspended = false;
    MHD_resume_connection(req->mhd);
    http_kick(req->http);
}

/* What is not there needs a token too, so that a stranger cannot map what is. */
static void route_request(struct request *req)
{
    enum route_result result =
        router_find(req->http->routes, req->method, req->path, &req->match);
    if (!auth_admit(req->app->auth, req,
                    result == ROUTE_FOUND ? req->match.route->access : ACCESS_PREDICT))
        return;
    switch (result) {
    case ROUTE_FOUND:
        break;
    case ROUTE_BAD_PATH:
        reply_problem(req, 400, "bad_path",
                      "The path has a malformed or forbidden segment (percent-encoding, \".\", "
                      "\"..\", an encoded '/', or over %d bytes).",
                      ROUTE_VALUE_BYTES - 1);
        break;
    case ROUTE_WRONG_METHOD:
        reply_header(req, "Allow", req->match.allow);
        reply_problem(req, 405, "method_not_allowed", "%s is not allowed here; %s would be.",
                      req->method, req->match.allow);
        break;
    case ROUTE_NOT_FOUND:
        reply_problem(req, 404, "not_found",
                      "There is nothing at this path; see the API in README.");
        break;
    }
}

/* The first call: headers only. A refusal goes out at once, before the body is read. */
static enum MHD_Result begin(struct request *req, const char *method, const char *version)
{
    struct connection *c = req->connection;
    struct guard_verdict verdict;
    connection_enter(c, CONNECTION_RECEIVING);
    guard_check(req->mhd,
                &(struct guard_request){.method = method,
                                        .version = version,
                                        .uri = c->uri,
                                        .uri_bytes = c->uri_bytes,
                                        .config = &req->app->config},
                &verdict);
    if (verdict.status) {
        req->close = true;
        reply_refuse(req, verdict.status, verdict.code, verdict.detail);
    } else {
        route_request(req);
    }
    if (!req->response)
        body_begin(req, verdict.has_body, verdict.content_length);
    /* How chunks' lines ended is not told: whatever came behind them is not taken for a request. */
    req->close = req->close || verdict.chunked;
    if (!req->response)
        return req->lost ? MHD_NO : MHD_YES;
    if (!verdict.has_body && !req->close)
        return MHD_YES; /* replied at the end of the empty body: the connection lives on */
    req->close = true;
    c->linger = verdict.has_body;
    return reply_queue(req);
}

static enum MHD_Result end_of_body(struct request *req)
{
    if (!body_finish(req))
        return suspend(req);
    if (!req->response && !req->lost && !req->handled) {
        connection_enter(req->connection, CONNECTION_HANDLING);
        req->handled = true;
        req->owed = true;
        if (!keyed_begin(req))
            req->match.route->handle(req);
    }
    if (req->lost)
        return MHD_NO;
    return req->response ? reply_queue(req) : suspend(req);
}

enum MHD_Result request_access(void *cls, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **con_cls)
{
    struct http *h = cls;
    struct request *req = *con_cls;
    if (!req) {
        req = h->stopping ? NULL : request_new(h, mhd, url, method);
        if (!req)
            return MHD_NO;
        *con_cls = req;
        return begin(req, method, version);
    }
    if (req->lost)
        return MHD_NO;
    if (*upload_data_size == 0)
        return end_of_body(req);
    size_t taken = body_feed(req, upload_data, *upload_data_size);
    *upload_data_size -= taken;
    return *upload_data_size == 0 ? MHD_YES : suspend(req);
}

/* What stays suspended would make MHD_stop_daemon abort the process. */
void request_shut(struct request *req)
{
    if (req->owed && !req->response)
        reply_refuse(req, 503, "shutting_down", "The daemon is stopping; try again soon.");
    request_resume(req);
}

/* ---- what a handler may ask ---- */

struct app *request_app(struct request *req)
{
    return req->app;
}

uint64_t request_began_ns(const struct request *req)
{
    return req->began_ns;
}

const char *request_method(const struct request *req)
{
    return req->method;
}

const char *request_path(const struct request *req)
{
    return req->path;
}

const char *request_param(const struct request *req, const char *name)
{
    for (int i = 0; i < req->match.param_count; i++) {
        if (strcmp(req->match.params[i].name, name) == 0)
            return req->match.params[i].value;
    }
    return "";
}

/* A string of `bytes` bytes that lives as long as the request; NULL when memory is short. */
static char *keep(struct request *req, size_t bytes)
{
    struct kept *k = malloc(sizeof *k + bytes);
    if (!k)
        return NULL;
    k->next = req->kept;
    req->kept = k;
    return k->text;
}

const char *request_query(struct request *req, const char *name)
{
    const char *raw =
        req->mhd ? MHD_lookup_connection_value(req->mhd, MHD_GET_ARGUMENT_KIND, name) : NULL;
    size_t n = raw ? strlen(raw) : 0;
    char *value = raw ? keep(req, n + 1) : NULL;
    if (!value || !percent_decode(value, n + 1, raw, n))
        return NULL;
    return value;
}

const char *request_header(struct request *req, const char *name)
{
    const char *raw =
        req->mhd ? MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name) : NULL;
    char *value = raw ? keep(req, strlen(raw) + 1) : NULL;
    return value ? strcpy(value, raw) : NULL;
}

const char *request_cookie(struct request *req, const char *name)
{
    const char *raw =
        req->mhd ? MHD_lookup_connection_value(req->mhd, MHD_COOKIE_KIND, name) : NULL;
    char *value = raw ? keep(req, strlen(raw) + 1) : NULL;
    return value ? strcpy(value, raw) : NULL;
}

const struct identity *request_identity(const struct request *req)
{
    return &req->identity;
}

const void *request_body(const struct request *req, size_t *size_bytes)
{
    *size_bytes = req->body_bytes;
    return req->body;
}

const char *request_spool(const struct request *req, uint64_t *size_bytes)
{
    *size_bytes = req->spool ? spool_size(req->spool) : 0;
    return req->spool ? spool_path(req->spool) : NULL;
}
