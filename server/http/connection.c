/*
 * connection.c - the TCP connections and their deadlines.
 *
 * libmicrohttpd's own time-out is on inactivity, so a byte now and then holds a connection for
 * ever. Once a second every connection is held against a deadline of its state and cut with
 * shutdown(), which libmicrohttpd then notices.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "server/app.h"
#include "server/http/internal.h"
#include "server/log.h"

enum {
    /* config.header_timeout_s from the connect, or from the last reply, for a header; and as long
     * for a body before it must have come at this rate on average */
    BODY_BYTES_PER_S = 1024,
    DRAIN_MS = 10000,
    SEND_GRACE_MS = 60000,
};

void connection_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                       enum MHD_ConnectionNotificationCode code)
{
    struct http *h = cls;
    struct connection *c = *socket_context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = calloc(1, sizeof *c);
        *socket_context = c;
        if (!c)
            return; /* its requests are refused for want of it */
        *c = (struct connection){.http = h, .fd = info->connect_fd, .next = h->connections};
        if (c->next)
            c->next->prev = c;
        h->connections = c;
        peer_of(mhd, c->peer);
        connection_enter(c, CONNECTION_WAITING);
    } else if (c) {
        if (c->linger && !h->stopping)
            linger_start(h, c->fd);
        if (c->next)
            c->next->prev = c->prev;
        if (c->prev)
            c->prev->next = c->next;
        else
            h->connections = c->next;
        free(c);
        *socket_context = NULL;
        http_kick(h); /* where all connections were taken, the next run accepts again */
    }
}

struct connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

void connection_enter(struct connection *c, enum connection_state state)
{
    c->state = state;
    c->since_ms = uv_now(c->http->app->loop);
    if (state == CONNECTION_WAITING) {
        c->receiving_ms = 0;
        c->received = 0;
        c->drain_until_ms = 0;
    }
}

void connection_drain(struct connection *c)
{
    if (c->drain_until_ms == 0)
        c->drain_until_ms = uv_now(c->http->app->loop) + DRAIN_MS;
}

void connection_send(struct connection *c, size_t reply_bytes)
{
    connection_enter(c, CONNECTION_SENDING);
    /* then a byte a millisecond, about the rate of a body */
    c->send_until_ms = c->since_ms + SEND_GRACE_MS + reply_bytes;
}

void connection_stream(struct connection *c)
{
    connection_enter(c, CONNECTION_STREAMING);
    c->send_until_ms = c->since_ms + SEND_GRACE_MS;
}

static bool is_overdue(const struct connection *c, uint64_t now)
{
    uint64_t grace_ms = (uint64_t)c->http->app->config.header_timeout_s * 1000;
    switch (c->state) {
    case CONNECTION_WAITING:
        return now - c->since_ms > grace_ms;
    case CONNECTION_RECEIVING:
        if (c->drain_until_ms != 0)
            return now > c->drain_until_ms;
        return c->receiving_ms > grace_ms &&
               c->received < c->receiving_ms / 1000 * BODY_BYTES_PER_S;
    case CONNECTION_HANDLING:
        return false;
    case CONNECTION_SENDING:
    case CONNECTION_STREAMING:
        return now > c->send_until_ms;
    }
    return false;
}

/* libmicrohttpd 0.9.75 misses a close whose notice came together with the last data: it would find
 * out by its time-out, a minute later. Seen twice, because it may still have to look at data it
 * already holds. */
static bool peer_left(struct connection *c)
{
    char byte;
    bool left_before = c->left;
    c->left = (c->state == CONNECTION_WAITING || c->state == CONNECTION_RECEIVING || c->stream) &&
              recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    return c->left && left_before;
}

void connections_sweep(struct http *h)
{
    uint64_t now = uv_now(h->app->loop);
    for (struct connection *c = h->connections; c; c = c->next) {
        if (c->suspended) {
            if (c->stream && peer_left(c))
                stream_end(c->stream);
            continue;
        }
        if (c->state == CONNECTION_RECEIVING)
            c->receiving_ms += 1000;
        bool overdue = is_overdue(c, now);
        if (overdue)
            log_debug("connection cut: too slow");
        if (overdue || peer_left(c))
            shutdown(c->fd, SHUT_RDWR);
    }
}
