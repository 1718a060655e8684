/*
 * events.c - GET /api/v1/events: Server-Sent Events.
 *
 * What was committed is a row with an id (store/events.h), and a client is no more than the id it
 * has got to: rows are read when its connection takes them, so a slow client costs nothing and a
 * reconnected one (Last-Event-ID) goes on where it was, over restarts too. Progress and heartbeats
 * have no id, since there is nothing to make up for: a client gets the newest or none.
 *
 *   id:    1, 2 ...   rows up to `visible`; a publication waits until the model serves
 *   no id  progress   of the running job, when it changed, at most twice a second
 *          a comment  every 15 s: that is how libmicrohttpd notices a client that vanished
 */
#include "server/api/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/api/jobs.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/jobs/queue.h"
#include "server/store/events.h"

enum { TICK_MS = 500, HEARTBEAT_TICKS = 30, ROWS_AT_ONCE = 16 };

struct client {
    struct events *events;
    struct client *prev, *next;
    struct stream *stream;
    int64_t last;  /* id it has got to; -1: it gave none */
    bool greeted;
    bool progress_due, heartbeat_due;
    char *text;    /* owned; on its way */
    size_t text_bytes, sent_bytes;
};

struct events {
    struct app *app;
    struct client *clients;
    int client_count;
    int64_t visible;   /* rows up to this id may be seen */
    char *progress;    /* owned; the last one sent, as text */
    uv_timer_t *timer; /* owned, freed when it has closed; runs while there are clients */
    unsigned ticks;
};

/* ---- one event as JSON ---- */

static json_t *event_json(const struct event *e)
{
    json_t *time = format_time(e->created_ms);
    if (strcmp(e->kind, "job") == 0)
        return json_pack("{s:o, s:I, s:s, s:o, s:o}", "time", time, "job", (json_int_t)e->job,
                         "state", e->what, "phase", format_text(e->phase), "error_code",
                         format_text(e->error_code));
    if (strcmp(e->kind, "epoch") == 0)
        return json_pack("{s:o, s:I, s:o}", "time", time, "job", (json_int_t)e->job, "epoch",
                         epoch_json(&e->epoch));
    if (strcmp(e->kind, "batch") == 0)
        return json_pack("{s:o, s:s, s:s}", "time", time, "batch", e->batch, "state", e->what);
    if (strcmp(e->kind, "version") == 0)
        return json_pack("{s:o, s:I, s:I, s:s}", "time", time, "version", (json_int_t)e->version,
                         "job", (json_int_t)e->job, "change", e->what);
    return json_pack("{s:o}", "time", time);
}

/* Writes one message; takes `data`. id 0: without one. */
static void write_message(FILE *out, int64_t id, const char *kind, json_t *data)
{
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(data);
    if (!text)
        return; /* no memory: it is missed, as a client that reads the state anew will see */
    if (id)
        fprintf(out, "id: %" PRId64 "\n", id);
    fprintf(out, "event: %s\ndata: %s\n\n", kind, text);
    free(text);
}

/* ---- what may be seen ---- */

/* A published version is announced when it serves, a moment after its commit. */
static bool is_early(const struct events *e, const struct event *row)
{
    return row->job != 0 && queue_running(e->app->queue) == row->job &&
           (strcmp(row->kind, "version") == 0 || strcmp(row->what, "succeeded") == 0);
}

/* Moves `visible` on. */
static void look(struct events *e)
{
    struct event rows[ROWS_AT_ONCE];
    int count;
    for (;;) {
        if (events_list(db_reader(e->app->db), e->visible, INT64_MAX, rows, ROWS_AT_ONCE,
                        &count) != 0)
            return;
        for (int i = 0; i < count; i++) {
            if (is_early(e, &rows[i]))
                return;
            e->visible = rows[i].id;
        }
        if (count < ROWS_AT_ONCE)
            return;
    }
}

static void wake_all(struct events *e)
{
    for (struct client *c = e->clients; c; c = c->next)
        stream_wake(c->stream);
}

static void on_change(void *ctx)
{
    struct events *e = ctx;
    int64_t seen = e->visible;
    look(e);
    if (e->visible != seen)
        wake_all(e);
}

/* ---- progress and heartbeat ---- */

/* True when there is progress that was not sent yet. */
static bool look_at_progress(struct events *e)
{
    int64_t job = queue_running(e->app->queue);
    json_t *live = job ? queue_live(e->app->queue, job) : NULL;
    if (live)
        json_object_set_new(live, "job", json_integer(job));
    char *text = live ? json_dumps(live, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(live);
    bool changed = text && (!e->progress || strcmp(e->progress, text) != 0);
    free(e->progress);
    e->progress = text; /* NULL while nothing runs */
    return changed;
}

static void on_tick(uv_timer_t *timer)
{
    struct events *e = timer->data;
    bool progress = look_at_progress(e);
    bool heartbeat = ++e->ticks % HEARTBEAT_TICKS == 0;
    if (!progress && !heartbeat)
        return;
    for (struct client *c = e->clients; c; c = c->next) {
        c->progress_due |= progress;
        c->heartbeat_due |= heartbeat;
    }
    wake_all(e);
}

/* ---- a client ---- */

/* The first message tells where it begins: `hello`, or `reset` where what it missed is gone. */
static void greet(struct client *c, FILE *out)
{
    int64_t oldest, newest;
    int64_t visible = c->events->visible;
    const char *kind = c->last < 0 ? "hello" : NULL;
    if (c->last >= 0 && (events_range(db_reader(c->events->app->db), &oldest, &newest) != 0 ||
                         c->last > newest || c->last < oldest - 1))
        kind = "reset";
    fputs("retry: 2000\n\n", out);
    c->greeted = true;
    if (!kind)
        return;
    write_message(out, visible, kind, json_pack("{s:I}", "last_id", (json_int_t)visible));
    c->last = visible;
}

static void write_rows(struct client *c, FILE *out)
{
    struct event rows[ROWS_AT_ONCE];
    int count;
    if (c->last >= c->events->visible ||
        events_list(db_reader(c->events->app->db), c->last, c->events->visible, rows, ROWS_AT_ONCE,
                    &count) != 0)
        return;
    for (int i = 0; i < count; i++) {
        write_message(out, rows[i].id, rows[i].kind, event_json(&rows[i]));
        c->last = rows[i].id;
    }
}

/* Makes the next piece of text; none: there is nothing to tell. */
static void refill(struct client *c)
{
    free(c->text);
    c->text = NULL;
    c->text_bytes = c->sent_bytes = 0;
    FILE *out = open_memstream(&c->text, &c->text_bytes);
    if (!out)
        return;
    if (!c->greeted)
        greet(c, out);
    write_rows(c, out);
    if (c->progress_due && c->events->progress && queue_running(c->events->app->queue))
        fprintf(out, "event: progress\ndata: %s\n\n", c->events->progress);
    if (c->heartbeat_due)
        fputs(": heartbeat\n\n", out);
    c->progress_due = c->heartbeat_due = false;
    if (fclose(out) != 0)
        c->text_bytes = 0;
}

static size_t read_client(void *ctx, char *out, size_t n)
{
    struct client *c = ctx;
    if (c->sent_bytes == c->text_bytes)
        refill(c);
    size_t left = c->text_bytes - c->sent_bytes;
    n = n < left ? n : left;
    if (n > 0)
        memcpy(out, c->text + c->sent_bytes, n);
    c->sent_bytes += n;
    return n;
}

static void close_client(void *ctx)
{
    struct client *c = ctx;
    struct events *e = c->events;
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        e->clients = c->next;
    if (--e->client_count == 0)
        uv_timer_stop(e->timer);
    free(c->text);
    free(c);
}

/* What the client has seen, from the header or, where it cannot set one, ?last_event_id=. An id
 * that was never given out leads to a `reset`. */
static int64_t last_seen(struct request *req)
{
    const char *text = request_header(req, "Last-Event-ID");
    int64_t id;
    if (!text || !*text)
        text = request_query(req, "last_event_id");
    if (!text || !*text)
        return -1;
    if (strcmp(text, "0") == 0)
        return 0;
    return parse_id(text, &id) ? id : INT64_MAX;
}

void api_events(struct request *req)
{
    static const struct stream_source source = {read_client, close_client};
    struct events *e = request_app(req)->events;
    if (e->client_count >= EVENTS_MAX_CLIENTS) {
        reply_header(req, "Retry-After", "15");
        reply_problem(req, 429, "too_many_streams",
                      "%d clients listen already. Share one stream, or poll.", EVENTS_MAX_CLIENTS);
        return;
    }
    struct client *c = calloc(1, sizeof *c);
    if (!c) {
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
        return;
    }
    *c = (struct client){.events = e, .next = e->clients, .last = last_seen(req)};
    c->progress_due = e->client_count > 0; /* what the others know; else the next tick tells */
    if (c->next)
        c->next->prev = c;
    e->clients = c;
    if (e->client_count++ == 0) {
        free(e->progress);
        e->progress = NULL;
        uv_timer_start(e->timer, on_tick, 0, TICK_MS);
    }
    struct stream *stream = reply_stream(req, "text/event-stream", &source, c);
    if (stream) /* else the client is freed already */
        c->stream = stream;
}

/* ---- life ---- */

int events_new(struct events **out, struct app *app)
{
    int64_t oldest;
    struct events *e = calloc(1, sizeof *e);
    uv_timer_t *timer = malloc(sizeof *timer);
    if (!e || !timer) {
        free(e);
        free(timer);
        return ERR_NOMEM;
    }
    e->app = app;
    e->timer = timer;
    int err = events_range(db_reader(app->db), &oldest, &e->visible); /* nothing runs yet */
    if (err) {
        free(e);
        free(timer);
        return err;
    }
    uv_timer_init(app->loop, timer);
    timer->data = e;
    db_watch(app->db, on_change, e);
    queue_watch(app->queue, on_change, e);
    *out = e;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

void events_free(struct events *e)
{
    if (!e)
        return;
    db_watch(e->app->db, NULL, NULL);
    queue_watch(e->app->queue, NULL, NULL);
    uv_close((uv_handle_t *)e->timer, on_timer_closed);
    free(e->progress);
    free(e);
}
