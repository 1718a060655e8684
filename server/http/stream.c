/*
 * stream.c - a reply without an end.
 *
 *   READING --source has nothing--> suspended --stream_wake--> READING --client left, stop--> closed
 *
 * libmicrohttpd does not look at a suspended connection, so the sweep does (connection.c): a client
 * that closed its side is taken as gone.
 */
#include <stdlib.h>
#include <string.h>

#include "server/http/internal.h"

struct stream {
    struct request *req; /* NULL once libmicrohttpd is done with it */
    struct stream_source source;
    void *ctx;
    bool ended;
};

static ssize_t on_read(void *cls, uint64_t position, char *out, size_t n)
{
    (void)position;
    struct stream *s = cls;
    if (!s->req || s->req->http->stopping || s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    struct connection *c = s->req->connection;
    connection_stream(c);
    size_t taken = s->source.read(s->ctx, out, n);
    if (taken == 0) {
        c->suspended = true;
        MHD_suspend_connection(s->req->mhd);
    }
    return (ssize_t)taken;
}

static void on_free(void *cls)
{
    struct stream *s = cls;
    if (s->req && s->req->connection)
        s->req->connection->stream = NULL;
    s->source.closed(s->ctx);
    free(s);
}

struct stream *reply_stream(struct request *req, const char *content_type,
                            const struct stream_source *source, void *ctx)
{
    if (strcmp(request_method(req), "HEAD") == 0) {
        /* libmicrohttpd 0.9.75 ends the body it does not send, which would stand before the next
         * reply. */
        source->closed(ctx);
        reply_static(req, 200, content_type, "", 0);
        return NULL;
    }
    struct stream *s = req->mhd && !req->response ? calloc(1, sizeof *s) : NULL;
    struct MHD_Response *response = NULL;
    if (s) {
        *s = (struct stream){.req = req, .source = *source, .ctx = ctx};
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_CHUNK_BYTES, on_read,
                                                     s, on_free);
    }
    if (!response) {
        free(s);
        source->closed(ctx);
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
        return NULL;
    }
    req->connection->stream = s;
    reply_response(req, 200, content_type, response);
    return s;
}

void stream_wake(struct stream *s)
{
    if (s->req)
        request_resume(s->req);
}

void stream_end(struct stream *s)
{
    s->ended = true;
    stream_wake(s);
}

void stream_detach(struct stream *s)
{
    s->req = NULL;
}
