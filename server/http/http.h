/*
 * http.h - libmicrohttpd inside the libuv loop: requests, bodies, replies.
 *
 * The only room that knows microhttpd.h. Everything here runs on the loop thread and never blocks.
 *
 * Life of a request:
 *   headers   guard (smuggling, Host, limits) and routing; an error is answered before the body is
 *             read
 *   body      BODY_MEMORY: collected up to the route's limit; BODY_SPOOL: written to a file by the
 *             worker pool while the connection is suspended whenever its double buffer is full
 *   handle    the route's handler is called once, with the whole body; it replies at once, or
 *             returns without a reply: then the connection is suspended until a later reply_*
 *   done      everything is freed in one place, after the reply was sent or the client left
 */
#ifndef ACCRETED_SERVER_HTTP_HTTP_H
#define ACCRETED_SERVER_HTTP_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app; /* server/app.h */
struct http;
struct request;

enum body_kind { BODY_NONE, BODY_MEMORY, BODY_SPOOL };

/* Route limits that the configuration sets. */
#define LIMIT_UPLOAD UINT64_MAX      /* config.max_upload_bytes */
#define LIMIT_IMAGE (UINT64_MAX - 1) /* config.max_image_bytes, and 64 KiB for a multipart frame */

/* And those that are fixed. */
enum {
    ROUTE_JSON_BYTES = 1 << 20,
    ROUTE_SMALL_BYTES = 4 << 10,
    ROUTE_WEIGHTS_BYTES = 128 << 20, /* more than the largest model there can be */
    ROUTE_IGNORED_BYTES = 64 << 10,  /* of a body where none is wanted */
};

/* Who may call a route once there is a token. Zero, the default of a row, is the strictest. */
enum route_access {
    ACCESS_ADMIN,   /* a token of scope admin */
    ACCESS_PREDICT, /* any token */
    ACCESS_OPEN,    /* anyone */
};

struct route {
    const char *method;  /* "GET", "POST", "PUT", "PATCH", "DELETE"; HEAD follows GET */
    const char *pattern; /* "/api/v1/jobs/{id}/cancel"; a {name} matches one path segment */
    enum body_kind body;
    uint64_t max_body_bytes; /* or LIMIT_*; for BODY_NONE unused: a body up to 64 KiB is ignored */
    void (*handle)(struct request *req);
    enum route_access access;
};

/* Who asks. Without any token everyone is admin, but not known. */
struct identity {
    bool known, admin;
    int64_t token;              /* its id */
    int64_t session_expires_ms; /* 0: not through the cookie */
};
#define SESSION_COOKIE "accreted_session"

/* ---- server life (main.c) ---- */

/* Listens on app->config's address and serves `routes` (borrowed, ends with a zeroed entry).
 * Errors: ERR_INVALID, ERR_IO (address in use), ERR_FORMAT (certificate or key), ERR_NOMEM. */
int http_start(struct http **out, struct app *app, const struct route *routes);
/* Stops accepting, answers what is deferred with 503 shutting_down, then stops libmicrohttpd.
 * Blocks at most 0.2 s. Handlers that still owe a reply keep their request, which is no longer
 * connected to anyone, until they give it: go on running the loop while http_owed says so. */
void http_stop(struct http *h);
/* Deferred requests whose handler has not replied yet. */
int http_owed(const struct http *h);
/* After http_stop, once the loop has closed the handles; accepts NULL. */
void http_free(struct http *h);
/* The port really listened on (config may say 0). */
int http_port(const struct http *h);

/* ---- for /metrics ---- */

enum { TRAFFIC_BUCKETS = 12, TRAFFIC_CODES = 32 };
extern const double traffic_bounds[TRAFFIC_BUCKETS]; /* seconds, growing */

struct traffic {              /* of one route, since the start */
    const struct route *route; /* NULL: what no route was found for */
    struct {
        int status; /* 0: end of the list */
        uint64_t count;
    } codes[TRAFFIC_CODES];
    /* Requests that took up to traffic_bounds[i], all of them, and their time. */
    uint64_t buckets[TRAFFIC_BUCKETS], count, sum_ns;
};
/* One for every route, then that for none; borrowed. */
const struct traffic *http_traffic(const struct http *h, int *count);

/* ---- what a handler may ask; all borrowed until the request is done ---- */
struct app *request_app(struct request *req);
const char *request_method(const struct request *req);
const char *request_path(const struct request *req);
/* Path parameter, percent-decoded; never NULL for a name in the pattern. */
const char *request_param(const struct request *req, const char *name);
/* Query parameter, decoded (valid UTF-8 is not promised), or NULL. Of several the first. */
const char *request_query(struct request *req, const char *name);
uint64_t request_began_ns(const struct request *req); /* uv_hrtime() when its headers were there */
/* Not for a deferred handler: NULL once the client is gone. */
const char *request_header(struct request *req, const char *name);
const char *request_cookie(struct request *req, const char *name);
const struct identity *request_identity(const struct request *req);
const void *request_body(const struct request *req, size_t *size_bytes);
/* The spooled body: path of a complete file in the data directory's tmp/; removed when the request
 * is done, unless it was renamed away before. */
const char *request_spool(const struct request *req, uint64_t *size_bytes);

/* ---- replies: exactly one per request ---- */

/* A GET or HEAD under /api/v1 that answers 200 gets an ETag, unless its handler gave one, and
 * becomes a 304 where If-None-Match names it. */

/* What If-Match holds a change against, of static storage (etag.h); without it, the whole reply. */
void reply_hold(struct request *req, const char *held);
/* JSON object; takes `body`. NULL body (out of memory) becomes a 500 problem. */
void reply_json(struct request *req, int status, json_t *body);
/* The text that reply_json sends, for the caller to free; NULL when memory is short. Any thread. */
char *reply_json_text(const json_t *body);
/* 412: If-Match names another state than the present one (etag.h). */
void reply_stale(struct request *req);
/* RFC 9457 problem+json: {type,title,status,detail,instance,code,error,retryable,request_id},
 * with `limit` where one was met.
 * `code` is stable and snake_case; the detail is printf-formatted and says what to do next. */
void reply_problem(struct request *req, int status, const char *code, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));
/* The name (of static storage, limits.h) of the limit behind the problem to come, where its code
 * alone does not tell. */
void reply_name_limit(struct request *req, const char *limit);
/* Bytes that are copied / that live for ever. */
void reply_copy(struct request *req, int status, const char *content_type, const void *data,
                size_t size_bytes);
void reply_static(struct request *req, int status, const char *content_type, const void *data,
                  size_t size_bytes);
/* Adds a header to the reply to come; before reply_*. */
void reply_header(struct request *req, const char *name, const char *value);

/* A reply without an end, made piece by piece on the loop. */
struct stream;
struct stream_source {
    /* Writes up to n bytes and returns how many; 0: nothing now, ask again after stream_wake. */
    size_t (*read)(void *ctx, char *out, size_t n);
    void (*closed)(void *ctx); /* once: the client left, or the daemon stops */
};
/* Replies 200. NULL: there is nobody to send to (a HEAD), or no memory; `closed` was called. */
struct stream *reply_stream(struct request *req, const char *content_type,
                            const struct stream_source *source, void *ctx);
/* There is more to read. Until `closed`. */
void stream_wake(struct stream *s);

#endif
