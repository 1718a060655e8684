/*
 * linger.c - the lingering close.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/app.h"
#include "server/http/internal.h"

enum { LINGER_MS = 3000, LINGER_BYTES = 64 << 20 };

struct linger_socket {
    struct http *http;
    struct linger_socket *prev, *next;
    int fd;
    uint64_t left_bytes;
    int open_handles;
    uv_poll_t poll;
    uv_timer_t timer;
};

static void on_closed(uv_handle_t *handle)
{
    struct linger_socket *l = handle->data;
    if (--l->open_handles > 0)
        return;
    close(l->fd);
    free(l);
}

static void linger_stop(struct linger_socket *l)
{
    struct http *h = l->http;
    if (l->next)
        l->next->prev = l->prev;
    if (l->prev)
        l->prev->next = l->next;
    else
        h->lingering = l->next;
    h->linger_count--;
    uv_close((uv_handle_t *)&l->poll, on_closed);
    uv_close((uv_handle_t *)&l->timer, on_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    linger_stop(timer->data);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct linger_socket *l = poll->data;
    static char sink[64 << 10];
    ssize_t n = status == 0 ? recv(l->fd, sink, sizeof sink, MSG_DONTWAIT) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || (uint64_t)n >= l->left_bytes)
        linger_stop(l);
    else
        l->left_bytes -= (uint64_t)n;
}

void linger_start(struct http *h, int fd)
{
    struct linger_socket *l = h->linger_count < MAX_LINGERING ? calloc(1, sizeof *l) : NULL;
    if (!l)
        return;
    *l = (struct linger_socket){.http = h, .left_bytes = LINGER_BYTES, .open_handles = 2};
    l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (l->fd < 0 || uv_poll_init(h->app->loop, &l->poll, l->fd) != 0) {
        if (l->fd >= 0)
            close(l->fd);
        free(l);
        return;
    }
    uv_timer_init(h->app->loop, &l->timer);
    l->poll.data = l->timer.data = l;
    l->next = h->lingering;
    if (l->next)
        l->next->prev = l;
    h->lingering = l;
    h->linger_count++;
    shutdown(l->fd, SHUT_WR);
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
    uv_timer_start(&l->timer, on_timeout, LINGER_MS, 0);
}

void linger_stop_all(struct http *h)
{
    while (h->lingering)
        linger_stop(h->lingering);
}
