/*
 * main.c - the daemon: the order in which its parts start and stop.
 *
 * start   options, data directory (locked), loop, database, model that serves, listening socket,
 *         jobs
 * stop    (SIGTERM, SIGINT) no more connections, deferred replies 503; the running job stops at its
 *         next safe point with a checkpoint; what the worker pool still has ends, where it takes
 *         long (uploads, a class being retired) unfinished; then everything closes in reverse.
 *         Exit 0.
 *         After STOP_DEADLINE_MS it ends at once, with 1: nothing acknowledged is lost by that.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "core/err.h"
#include "server/api/events.h"
#include "server/api/routes.h"
#include "server/app.h"
#include "server/data_dir.h"
#include "server/http/auth.h"
#include "server/http/http.h"
#include "server/jobs/predictor.h"
#include "server/jobs/queue.h"
#include "server/jobs/retire.h"
#include "server/log.h"
#include "server/store/db.h"
#include "server/store/idempotency.h"
#include "server/token_cli.h"
#include "server/work.h"

enum { STOP_DEADLINE_MS = 9000, STOP_POLL_MS = 10 };

void openblas_set_num_threads(int threads); /* cblas.h of other BLAS libraries does not know it */

struct daemon {
    struct app app;
    uv_loop_t loop;
    uv_signal_t term, interrupt;
    uv_timer_t drain, deadline; /* of the stop */
    int lock_fd;
    bool queue_stopped;
};

/* The one line that says why the daemon did not start. */
static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("accreted: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_FAILURE;
}

/* ---- stop ---- */

static void on_deadline(uv_timer_t *timer)
{
    (void)timer;
    log_error("still busy %d s after the signal; ending now, the job goes on from its checkpoint",
              STOP_DEADLINE_MS / 1000);
    _exit(EXIT_FAILURE);
}

static void on_drain(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    if (d->queue_stopped && work_pending() == 0 && http_owed(d->app.http) == 0)
        uv_stop(&d->loop);
}

static void on_queue_stopped(void *ctx)
{
    struct daemon *d = ctx;
    d->queue_stopped = true;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    if (d->app.stopping)
        return;
    d->app.stopping = true;
    log_info("stopping on signal %d", number);
    sd_notify(0, "STOPPING=1");
    uv_timer_start(&d->deadline, on_deadline, STOP_DEADLINE_MS, 0);
    uv_timer_start(&d->drain, on_drain, 0, STOP_POLL_MS);
    http_stop(d->app.http);
    queue_stop(d->app.queue, on_queue_stopped, d);
}

static void close_handles(struct daemon *d)
{
    uv_close((uv_handle_t *)&d->term, NULL);
    uv_close((uv_handle_t *)&d->interrupt, NULL);
    uv_close((uv_handle_t *)&d->drain, NULL);
    uv_close((uv_handle_t *)&d->deadline, NULL);
}

/* ---- start ---- */

static void watch_signals(struct daemon *d)
{
    uv_signal_init(&d->loop, &d->term);
    uv_signal_init(&d->loop, &d->interrupt);
    uv_timer_init(&d->loop, &d->drain);
    uv_timer_init(&d->loop, &d->deadline);
    d->term.data = d->interrupt.data = d->drain.data = d;
    uv_signal_start(&d->term, on_signal, SIGTERM);
    uv_signal_start(&d->interrupt, on_signal, SIGINT);
}

/* Whatever a process has one of. */
static int set_up_process(const struct config *config)
{
    signal(SIGPIPE, SIG_IGN); /* a client that left is an error of write() */
    json_object_seed(0);
    openblas_set_num_threads(1); /* the gang splits the batch; BLAS inside must not split again */
    if (log_set_level(config->log_level) != 0 || work_setup() != 0 || sodium_init() < 0)
        return fail("out of memory");
    return 0;
}

static int open_store(struct app *app)
{
    const char *dir = app->config.data_dir;
    int rc = db_open(&app->db, app->loop, dir);
    if (rc != 0)
        return fail("cannot open the database %s/accreted.db: %s", dir, err_str(rc));
    rc = db_write_wait(app->db, idempotency_drop_unfinished, NULL);
    if (rc != 0)
        return fail("cannot write to the database: %s", err_str(rc));
    rc = auth_new(&app->auth);
    if (rc == 0)
        rc = auth_load(app->auth, db_reader(app->db));
    if (rc != 0)
        return fail("cannot read the tokens: %s", err_str(rc));
    retire_recover(app->db, dir); /* before anyone reads a snapshot whose base was changed */
    rc = predictor_new(&app->predictor, app);
    if (rc == 0)
        rc = predictor_start(app->predictor);
    if (rc != 0)
        return fail("cannot load the active model, or a snapshot that it asks, from models and snapshots in %s: %s; restore these from a backup", dir, err_str(rc));
    rc = queue_new(&app->queue, app);
    if (rc == 0)
        rc = events_new(&app->events, app);
    if (rc != 0)
        return fail("cannot make the job queue: %s", err_str(rc));
    return 0;
}

/* Who listens to more than this machine asks for a token, and lets nobody read it on its way. */
static int check_exposure(const struct app *app)
{
    const struct config *config = &app->config;
    if (config_is_loopback(config->listen))
        return EXIT_SUCCESS;
    if (!auth_required(app->auth))
        return fail("listening on %s needs a token, for anyone may connect: stop here and run "
                    "`accreted token create --scope admin --data-dir %s`",
                    config->listen, config->data_dir);
    if (!config->tls_certificate[0] && !config->trusted_proxy[0])
        return fail("listening on %s without TLS would show the token to the network: set "
                    "tls-certificate and tls-key, or trusted-proxy where a proxy does TLS",
                    config->listen);
    return EXIT_SUCCESS;
}

static int open_doors(struct app *app)
{
    const struct config *config = &app->config;
    if (check_exposure(app) != EXIT_SUCCESS)
        return EXIT_FAILURE;
    int rc = http_start(&app->http, app, api_routes);
    if (rc == ERR_IO)
        return fail("cannot listen on %s port %d: %s", config->listen, config->port,
                    strerror(errno));
    if (rc == ERR_FORMAT)
        return fail("cannot use the certificate %s with the key %s: both must be PEM files that "
                    "belong together",
                    config->tls_certificate, config->tls_key);
    if (rc != 0)
        return fail("cannot start the HTTP server: %s", err_str(rc));
    if (data_dir_write_port(config->data_dir, http_port(app->http)) != 0)
        return fail("cannot write %s/port: %s", config->data_dir, strerror(errno));
    rc = queue_start(app->queue);
    if (rc != 0)
        return fail("cannot recover the jobs: %s", err_str(rc));
    return 0;
}

static int run(struct daemon *d)
{
    struct app *app = &d->app;
    int status = open_store(app);
    watch_signals(d); /* before anyone can know that we run */
    if (status == 0)
        status = open_doors(app);
    if (status != 0)
        return status; /* a process that never served has nothing to close */
    log_info("accreted " ACCRETED_VERSION " listens on %s port %d, data in %s, kernels %s",
             app->config.listen, http_port(app->http), app->config.data_dir,
             conv_isa_name(app->isa));
    sd_notifyf(0, "READY=1\nSTATUS=Listening on port %d", http_port(app->http));

    uv_run(&d->loop, UV_RUN_DEFAULT);

    events_free(app->events);
    queue_free(app->queue);
    predictor_free(app->predictor);
    auth_free(app->auth);
    free(app->contract);
    db_close(app->db);
    close_handles(d);
    uv_run(&d->loop, UV_RUN_DEFAULT); /* the closing callbacks */
    http_free(app->http);
    data_dir_remove_port(app->config.data_dir);
    if (uv_loop_close(&d->loop) != 0)
        log_warning("a handle was left open");
    log_info("stopped");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct daemon daemon;
    struct config *config = &daemon.app.config;
    char message[512 + 4096];
    if (argc > 1 && strcmp(argv[1], "token") == 0)
        return token_cli(argc - 1, argv + 1);
    if (config_load(config, argc, argv, message, sizeof message) != 0)
        return fail("%s", message);
    if (config->help || config->version) {
        fputs(config->help ? config_usage() : "accreted " ACCRETED_VERSION "\n", stdout);
        return EXIT_SUCCESS;
    }
    if (set_up_process(config) != 0)
        return EXIT_FAILURE;
    if (data_dir_open(config->data_dir, &daemon.lock_fd, message, sizeof message) != 0)
        return fail("%s", message);
    if (uv_loop_init(&daemon.loop) != 0)
        return fail("cannot make the event loop");
    daemon.app.loop = &daemon.loop;
    daemon.app.isa = conv_isa_best();
    daemon.app.started_ms = db_now_ms();
    int status = run(&daemon);
    close(daemon.lock_fd);
    return status;
}
