/*
 * body.c - the three kinds of request body, and their limits.
 *
 * No reply can be queued while body bytes are still to come. So a body that turns out bad half way
 * gets its reply stored, the rest is drained (for at most 10 s, connection.c), and then the reply
 * goes out.
 */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/app.h"
#include "server/data_dir.h"
#include "server/http/internal.h"
#include "server/http/limits.h"

enum { FRAME_BYTES = 64 << 10, FIRST_BYTES = 16 << 10 };

#define ALL_BODIES_BYTES (UINT64_C(256) << 20) /* in memory, of all requests together */

static uint64_t limit_of(const struct request *req)
{
    const struct config *config = &req->app->config;
    const struct route *route = req->match.route;
    if (route->body == BODY_NONE)
        return ROUTE_IGNORED_BYTES;
    if (route->max_body_bytes == LIMIT_UPLOAD)
        return config->max_upload_bytes;
    if (route->max_body_bytes == LIMIT_IMAGE)
        return config->max_image_bytes + FRAME_BYTES;
    return route->max_body_bytes;
}

static void refuse_size(struct request *req)
{
    reply_name_limit(req, limit_of_body(req->match.route));
    reply_problem(req, 413, "body_too_large",
                  "The body is over the limit of %ju bytes; send less at once.",
                  (uintmax_t)req->body_limit);
}

static void refuse_disk(struct request *req)
{
    reply_problem(req, 507, "disk_full",
                  "The disk has too little free space for this upload (%ju bytes are left alone); "
                  "free some and try again.",
                  (uintmax_t)req->app->config.min_free_bytes);
}

static void on_spool_ready(void *ctx)
{
    request_resume(ctx);
}

static bool disk_has(const struct request *req, uint64_t wanted)
{
    const struct config *config = &req->app->config;
    int err = data_dir_check_room(config->data_dir, config->min_free_bytes, wanted);
    return err != ERR_NOSPACE; /* where nobody knows, the write will tell */
}

static void begin_spool(struct request *req, uint64_t content_length)
{
    const struct config *config = &req->app->config;
    if (!disk_has(req, content_length == UINT64_MAX ? 0 : content_length)) {
        refuse_disk(req);
    } else if (req->http->uploads >= MAX_UPLOADS) {
        reply_problem(req, 503, "too_many_uploads", "%d uploads are under way; try again later.",
                      MAX_UPLOADS);
    } else if (spool_new(&req->spool, req->app->loop, config->data_dir, config->min_free_bytes,
                         on_spool_ready, req) != 0) {
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    } else {
        req->http->uploads++;
    }
}

void body_begin(struct request *req, bool announced, uint64_t content_length)
{
    req->body_limit = limit_of(req);
    if (announced && content_length != UINT64_MAX && content_length > req->body_limit)
        refuse_size(req);
    else if (req->match.route->body == BODY_SPOOL)
        begin_spool(req, content_length);
}

/* Doubles the buffer until n more bytes fit; false when memory, or our share of it, is used up. */
static bool make_room(struct request *req, size_t n)
{
    size_t capacity = req->body_capacity ? req->body_capacity : FIRST_BYTES;
    while (capacity - req->body_bytes < n)
        capacity *= 2;
    if (capacity == req->body_capacity)
        return true;
    size_t more = capacity - req->body_capacity;
    if (req->http->body_memory + more > ALL_BODIES_BYTES)
        return false;
    uint8_t *body = realloc(req->body, capacity);
    if (!body)
        return false;
    req->http->body_memory += more;
    req->body = body;
    req->body_capacity = capacity;
    return true;
}

static size_t feed_memory(struct request *req, const char *data, size_t n)
{
    if (!make_room(req, n)) {
        reply_problem(req, 503, "no_memory", "Too many bodies are in memory; try again later.");
        return n;
    }
    memcpy(req->body + req->body_bytes, data, n);
    req->body_bytes += n;
    return n;
}

static void check_spool(struct request *req)
{
    int error = spool_error(req->spool);
    if (error == 0)
        return;
    if (error == ERR_NOSPACE)
        refuse_disk(req);
    else if (error == ERR_NOMEM)
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    else
        reply_problem(req, 500, "io_error", "Writing the upload failed; see the daemon's log.");
}

size_t body_feed(struct request *req, const char *data, size_t n)
{
    size_t taken = n;
    if (!req->response && req->connection->received + n > req->body_limit) {
        refuse_size(req);
    } else if (!req->response && req->match.route->body == BODY_MEMORY) {
        taken = feed_memory(req, data, n);
    } else if (!req->response && req->match.route->body == BODY_SPOOL) {
        taken = spool_feed(req->spool, data, n);
        check_spool(req);
    }
    if (req->response)
        connection_drain(req->connection);
    req->connection->received += taken;
    return taken;
}

bool body_finish(struct request *req)
{
    if (!req->spool || req->response)
        return true;
    if (!spool_finish(req->spool))
        return false;
    check_spool(req);
    return true;
}

void body_release(struct request *req)
{
    req->http->body_memory -= req->body_capacity;
    req->http->uploads -= req->spool != NULL;
    free(req->body);
    spool_free(req->spool);
    req->body = NULL;
    req->spool = NULL;
}
