/*
 * http.c - libmicrohttpd's external epoll mode as a guest of the libuv loop; start and stop.
 *
 * libmicrohttpd's sockets are edge-triggered behind its own epoll descriptor: after every MHD_run
 * and every resume its next time-out has to be asked for anew, or data already read from a socket
 * would wait for ever.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/err.h"
#include "server/app.h"
#include "server/http/internal.h"
#include "server/log.h"

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

enum { IDLE_TIMEOUT_S = 60, CONNECTION_BYTES = 64 << 10, BACKLOG = 128, STOP_ROUNDS = 20 };

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer);

static void run(struct http *h)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    h->kicked = false;
    MHD_run(h->daemon);
    if (h->kicked)
        uv_timer_start(&h->timer, on_timer, 0, 0);
    else if (MHD_get_timeout(h->daemon, &timeout_ms) == MHD_YES)
        uv_timer_start(&h->timer, on_timer, timeout_ms, 0);
    else
        uv_timer_stop(&h->timer);
}

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

static void on_sweep(uv_timer_t *timer)
{
    connections_sweep(timer->data);
}

void http_kick(struct http *h)
{
    h->kicked = true;
    if (!h->stopping)
        uv_timer_start(&h->timer, on_timer, 0, 0);
}

/* ---- libmicrohttpd's other callbacks ---- */

static void on_log(void *cls, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *format, va_list args)
{
    (void)cls;
    char message[512];
    vsnprintf(message, sizeof message, format, args);
    message[strcspn(message, "\n")] = '\0';
    log_debug("libmicrohttpd: %s", message);
}

/* The router and the query decode by themselves, after splitting. */
static size_t leave_escaped(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    (void)cls;
    struct connection *c = connection_of(mhd);
    if (c) {
        c->uri = uri;
        c->uri_bytes = strcspn(uri, " "); /* the guard sees where one with a space is longer */
    }
    return NULL;
}

/* ---- start ---- */

static int listen_socket(struct http *h)
{
    const struct config *config = &h->app->config;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)config->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)config->port)};
    bool is_v6 = inet_pton(AF_INET6, config->listen, &v6.sin6_addr) == 1;
    if (!is_v6 && inet_pton(AF_INET, config->listen, &v4.sin_addr) != 1)
        return ERR_INVALID;
    struct sockaddr *address = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t bytes = is_v6 ? sizeof v6 : sizeof v4;
    int on = 1;
    h->listen_fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->listen_fd < 0)
        return ERR_IO;
    setsockopt(h->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(h->listen_fd, address, bytes) != 0 || listen(h->listen_fd, BACKLOG) != 0 ||
        getsockname(h->listen_fd, address, &bytes) != 0) {
        int saved = errno;
        close(h->listen_fd);
        errno = saved; /* tells why */
        return ERR_IO;
    }
    h->port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
    return 0;
}

static char *read_pem(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    ssize_t n = file ? getdelim(&text, &size, '\0', file) : -1;
    if (file)
        fclose(file);
    if (n > 0)
        return text;
    free(text);
    return NULL;
}

static int load_certificate(struct http *h)
{
    const struct config *config = &h->app->config;
    if (!config->tls_certificate[0])
        return 0;
    h->certificate = read_pem(config->tls_certificate);
    h->key = read_pem(config->tls_key);
    return h->certificate && h->key ? 0 : ERR_FORMAT;
}

static struct MHD_Daemon *start_daemon(struct http *h)
{
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, h->certificate},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, h->key},
                                   {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITIES},
                                   {MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
            (h->certificate ? MHD_USE_TLS : 0),
        0, peer_admit, h, request_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, h, MHD_OPTION_LISTEN_SOCKET,
        h->listen_fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->app->config.max_connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED,
        request_completed, h, MHD_OPTION_NOTIFY_CONNECTION, connection_notify, h,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, h, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, h,
        MHD_OPTION_ARRAY, h->certificate ? tls : &tls[3], MHD_OPTION_END);
}

static int attach(struct http *h)
{
    uv_loop_t *loop = h->app->loop;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || uv_poll_init(loop, &h->poll, info->epoll_fd) != 0)
        return ERR_NOMEM;
    uv_timer_init(loop, &h->timer);
    uv_timer_init(loop, &h->sweeper);
    h->poll.data = h->timer.data = h->sweeper.data = h;
    uv_poll_start(&h->poll, UV_READABLE, on_poll);
    uv_timer_start(&h->sweeper, on_sweep, 1000, 1000);
    http_kick(h);
    return 0;
}

int http_start(struct http **out, struct app *app, const struct route *routes)
{
    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return ERR_NOMEM;
    h->app = app;
    h->routes = routes;
    if (getrandom(&h->id_prefix, sizeof h->id_prefix, 0) < 0)
        h->id_prefix = (uint32_t)getpid(); /* it only has to differ between starts */
    int rc = traffic_new(h);
    if (rc == 0)
        rc = load_certificate(h);
    if (rc == 0)
        rc = listen_socket(h);
    if (rc != 0)
        goto out;
    h->daemon = start_daemon(h);
    if (!h->daemon) {
        close(h->listen_fd);
        rc = h->certificate ? ERR_FORMAT : ERR_NOMEM;
        goto out;
    }
    rc = attach(h);
    if (rc != 0)
        MHD_stop_daemon(h->daemon); /* closes the socket too */
out:
    if (rc != 0)
        http_free(h);
    else
        *out = h;
    return rc;
}

int http_port(const struct http *h)
{
    return h->port;
}

/* ---- stop ---- */

/* Lets the replies just given reach their sockets. */
static void flush(struct http *h)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd pfd = {.fd = info->epoll_fd, .events = POLLIN};
    for (int i = 0; i < STOP_ROUNDS; i++) {
        MHD_run(h->daemon);
        bool sending = false;
        for (const struct request *r = h->requests; r; r = r->next)
            sending |= r->mhd && (r->response || r->queued);
        if (!sending)
            return;
        poll(&pfd, 1, 10);
    }
}

void http_stop(struct http *h)
{
    h->stopping = true;
    uv_close((uv_handle_t *)&h->poll, NULL);
    uv_close((uv_handle_t *)&h->timer, NULL);
    uv_close((uv_handle_t *)&h->sweeper, NULL);
    linger_stop_all(h);
    close(MHD_quiesce_daemon(h->daemon));
    for (struct request *r = h->requests; r; r = r->next)
        request_shut(r);
    flush(h);
    MHD_stop_daemon(h->daemon);
    h->daemon = NULL;
}

int http_owed(const struct http *h)
{
    int owed = 0;
    for (const struct request *r = h->requests; r; r = r->next)
        owed += r->owed;
    return owed;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    free(h->traffic);
    free(h->certificate);
    if (h->key)
        explicit_bzero(h->key, strlen(h->key));
    free(h->key);
    free(h);
}
