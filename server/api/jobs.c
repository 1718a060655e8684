/*
 * jobs.c - /api/v1/jobs: posting, reading and cancelling training jobs.
 *
 * Writes go to the db thread; the request waits without a reply until the commit is durable.
 */
#include "server/api/jobs.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/curve.h"
#include "server/api/format.h"
#include "server/app.h"
#include "server/http/etag.h"
#include "server/http/http.h"
#include "server/jobs/forecast.h"
#include "server/jobs/plan.h"
#include "server/jobs/queue.h"
#include "server/store/jobs.h"
#include "server/store/versions.h"

enum { MAX_BATCHES_PER_JOB = 1000 };

/* ---- the job object ---- */

static json_t *batches_json(const struct job *j)
{
    json_t *names = json_array();
    for (int i = 0; i < j->batch_count; i++)
        json_array_append_new(names, json_string(j->batch_names[i]));
    return names;
}

static json_t *error_json(const struct job *j)
{
    if (!j->error_code)
        return json_null();
    return json_pack("{s:s, s:s}", "code", j->error_code, "detail", j->error_detail);
}

static json_t *interruption_json(const struct job *j)
{
    switch (j->interruption) {
    case JOB_NOT_INTERRUPTED:
        return json_null();
    case JOB_DAEMON_STOPPED:
        return json_string("daemon_stopped");
    case JOB_DAEMON_CRASHED:
        return json_string("daemon_crashed");
    }
    return json_null();
}

/* The row as it is seen from outside: a job counts as running until its model serves and its
 * training images are gone, a moment after the commit. */
static void hold_back(const struct app *app, struct job *j)
{
    if (j->state != JOB_SUCCEEDED || queue_running(app->queue) != j->id)
        return;
    j->state = JOB_RUNNING;
    j->finished_ms = 0;
    j->version = 0;
    j->reproducible = -1;
}

static json_t *job_json(struct app *app, struct job *j)
{
    int64_t position = 0, start_ms = 0;
    json_t *live = queue_live(app->queue, j->id);
    hold_back(app, j);
    char *gate = NULL;
    if (j->version)
        versions_gate(db_reader(app->db), j->version, &gate);
    if (j->state == JOB_QUEUED) {
        jobs_position(db_reader(app->db), j->id, &position);
        start_ms = forecast_start(db_reader(app->db), app->queue, j->id);
    }
    json_t *o = json_pack(
        "{s:I, s:s, s:o, s:f, s:n, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "id", (json_int_t)j->id, "state", job_state_name(j->state), "phase", format_text(j->phase),
        "progress", j->progress, "eta_seconds", "queue_position", format_id(position),
        "estimated_start", format_time(start_ms), "warnings",
        j->warnings ? format_stored(j->warnings) : json_array(), "batches",
        batches_json(j), "options", json_loads(j->options, 0, NULL), "attempt", j->attempt,
        "restarts", j->restarts, "interruption", interruption_json(j), "created",
        format_time(j->created_ms), "started", format_time(j->started_ms), "finished",
        format_time(j->finished_ms), "error", error_json(j), "retry_of", format_id(j->retry_of), "base", format_id(j->base), "version",
        format_id(j->version), "published",
        j->version ? json_boolean(j->published) : json_null(), "gate", format_stored(gate),
        "train_images", j->train_images < 0 ? json_null() : json_integer(j->train_images),
        "images_per_second", format_real(round(10 * j->images_per_second) / 10), "kernel", format_text(j->kernel),
        "threads", format_id(j->gang), "reproducible",
        j->reproducible < 0 ? json_null() : json_boolean(j->reproducible));
    if (o && live && (j->state == JOB_RUNNING || j->state == JOB_CANCELLING))
        json_object_update(o, live);
    json_decref(live);
    free(gate);
    return o;
}

static void reply_not_found(struct request *req)
{
    reply_problem(req, 404, "job_not_found",
                  "There is no job '%.40s'. GET /api/v1/jobs lists them.",
                  request_param(req, "id"));
}

static void reply_job(struct request *req, int status, int64_t id)
{
    struct app *app = request_app(req);
    struct job j;
    int err = jobs_get(db_reader(app->db), id, &j);
    if (err == ERR_MISSING) {
        reply_not_found(req);
    } else if (err) {
        reply_store_error(req, "The database said", err);
    } else {
        json_t *o = job_json(app, &j);
        reply_hold(req, job_state_name(j.state));
        reply_json(req, status, o);
        job_release(&j);
    }
}

/* ---- POST ---- */

struct posting {
    struct request *req;
    int64_t retry_of; /* 0, or the job to repeat, */
    struct job old;   /* which the transaction reads */
    json_t *body; /* owns the batch names */
    const char **names;
    int count;
    int max_queued;
    bool dry_run;
    json_t *told; /* in place of a job: the reply to dry_run */
    struct job_options options;
    struct refusal why; /* code "" unless refused */
    int64_t id;
};

static void posting_free(struct posting *p)
{
    json_decref(p->body);
    json_decref(p->told);
    free(p->names);
    job_release(&p->old);
    free(p);
}

static int parse_batches(struct posting *p)
{
    json_t *batches = json_object_get(p->body, "batches");
    size_t count = json_array_size(batches);
    if (!json_is_array(batches) || count == 0 || count > MAX_BATCHES_PER_JOB)
        return refuse(&p->why, 422, "bad_field",
                      "'batches' must be a list of 1 to %d names of batches.",
                      MAX_BATCHES_PER_JOB);
    p->names = calloc(count, sizeof *p->names);
    if (!p->names)
        return ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        p->names[i] = json_string_value(json_array_get(batches, i));
        if (!p->names[i])
            return refuse(&p->why, 422, "bad_field", "Each of 'batches' must be a name in quotes.");
    }
    p->count = (int)count;
    return 0;
}

static int parse_posting(struct posting *p)
{
    size_t size;
    json_error_t error;
    const char *key;
    json_t *value;
    const char *text = request_body(p->req, &size);
    p->body = json_loadb(text ? text : "", size, JSON_REJECT_DUPLICATES, &error);
    if (!p->body)
        return refuse(&p->why, 400, "bad_json", "The body is no JSON: %s (line %d, column %d).",
                      error.text, error.line, error.column);
    if (!json_is_object(p->body))
        return refuse(&p->why, 422, "bad_field", "The body must be an object with 'batches'.");
    json_object_foreach(p->body, key, value)
    {
        if (strcmp(key, "batches") != 0 && strcmp(key, "options") != 0)
            return refuse(&p->why, 422, "bad_field",
                          "There is no field '%.60s': the fields are 'batches' and 'options'.",
                          key);
    }
    int err = parse_batches(p);
    if (!err)
        err = job_options_parse(&p->options, json_object_get(p->body, "options"), &p->why);
    return err;
}

/* Batches and options of the job to repeat. */
static int load_old(struct db_txn *t, struct posting *p)
{
    int err = jobs_get(t, p->retry_of, &p->old);
    if (err)
        return err;
    if (p->old.state != JOB_FAILED && p->old.state != JOB_CANCELLED)
        return refuse(&p->why, 409, "not_retryable",
                      "Job %" PRId64 " is %s; only a failed or cancelled one can be repeated.",
                      p->retry_of, job_state_name(p->old.state));
    p->names = calloc((size_t)p->old.batch_count + 1, sizeof *p->names);
    if (!p->names)
        return ERR_NOMEM;
    for (int i = 0; i < p->old.batch_count; i++)
        p->names[i] = p->old.batch_names[i];
    p->count = p->old.batch_count;
    return job_options_load(&p->options, p->old.options);
}

/* Classes of the outputs [first, end) that it brings images of. */
static json_t *plan_classes_json(const struct plan *plan, int first, int end)
{
    json_t *classes = json_array();
    for (int i = first; i < end; i++) {
        int64_t train = 0, test;
        if (plan->names[i])
            forecast_images(plan, i, &train, &test);
        if (train > 0)
            json_array_append_new(classes, json_pack("{s:s, s:I, s:I}", "name", plan->names[i],
                                                     "train_images", (json_int_t)train, "test_images",
                                                     (json_int_t)test));
    }
    return classes;
}

/* What a job would be; all but the batches' names and its start. Takes `warnings`. */
static json_t *plan_json(struct db_txn *t, const struct plan *plan, const char *options,
                         int64_t queued, json_t *warnings)
{
    return json_pack(
        "{s:b, s:o, s:o, s:i, s:b, s:o, s:o, s:I, s:o, s:o, s:I}", "dry_run", 1, "options",
        format_stored(options), "base", format_id(plan->base), "step", plan->step, "trains",
        (int)!plan->refines, "classes", plan_classes_json(plan, plan->known, plan->classes),
        "known_classes", plan_classes_json(plan, 0, plan->known), "train_images",
        (json_int_t)plan_train_images(plan), "warnings", warnings, "estimated_seconds",
        format_real(forecast_seconds(t, forecast_passes(plan))), "queue_position",
        (json_int_t)(queued + 1));
}

/* A job of the plan; or, for dry_run, what it would be. */
static int insert_planned(struct db_txn *t, struct posting *p, const struct plan *plan,
                          int64_t queued)
{
    int64_t ids[MAX_BATCHES_PER_JOB];
    char *options = NULL, *text = NULL;
    json_t *warnings = forecast_warnings(plan);
    int err = warnings ? job_options_dump(&plan->options, &options) : ERR_NOMEM;
    if (!err && p->dry_run) {
        p->told = plan_json(t, plan, options, queued, json_incref(warnings));
        err = p->told ? 0 : ERR_NOMEM;
    } else if (!err) {
        for (int i = 0; i < plan->train_count; i++)
            ids[i] = plan->train[i].id;
        text = json_dumps(warnings, JSON_COMPACT);
        err = text ? jobs_insert(t, options, ids, plan->train_count, p->retry_of, text, &p->id)
                   : ERR_NOMEM;
    }
    json_decref(warnings);
    free(options);
    free(text);
    return err;
}

static int write_posting(struct db_txn *t, void *ctx)
{
    struct posting *p = ctx;
    struct plan plan = {0};
    int64_t queued;
    int err = p->retry_of ? load_old(t, p) : 0;
    if (err)
        return err;
    err = plan_for_post(t, p->names, p->count, &p->options, &plan, &p->why);
    if (err)
        return err;
    err = jobs_count_queued(t, &queued);
    if (!err && queued >= p->max_queued)
        err = refuse(&p->why, 429, "queue_full",
                     "%d jobs wait already. Try again when one of them has ended.", p->max_queued);
    if (!err)
        err = insert_planned(t, p, &plan, queued);
    plan_release(&plan);
    return err;
}

static void reply_told(struct posting *p)
{
    struct app *app = request_app(p->req);
    json_object_set(p->told, "batches", json_object_get(p->body, "batches"));
    json_object_set_new(p->told, "estimated_start",
                        format_time(forecast_start(db_reader(app->db), app->queue, INT64_MAX)));
    reply_json(p->req, 200, json_incref(p->told));
}

static void reply_refusal(struct posting *p, int err)
{
    if (err == ERR_MISSING && p->retry_of)
        reply_not_found(p->req);
    else if (p->why.code[0])
        reply_problem(p->req, p->why.status, p->why.code, "%s", p->why.detail);
    else
        reply_store_error(p->req, "The database said", err);
}

static void posting_done(void *ctx, int err)
{
    struct posting *p = ctx;
    struct app *app = request_app(p->req);
    if (err) {
        if (p->why.status == 429)
            reply_header(p->req, "Retry-After", "60");
        reply_refusal(p, err);
    } else if (p->told) {
        reply_told(p);
    } else {
        char location[64];
        snprintf(location, sizeof location, "/api/v1/jobs/%" PRId64, p->id);
        reply_header(p->req, "Location", location);
        reply_header(p->req, "Retry-After", "2");
        queue_kick(app->queue);
        reply_job(p->req, 202, p->id);
    }
    posting_free(p);
}

static void start_posting(struct request *req, bool retry)
{
    struct app *app = request_app(req);
    struct posting *p = calloc(1, sizeof *p);
    if (!p) {
        reply_json(req, 500, NULL);
        return;
    }
    p->req = req;
    p->max_queued = app->config.max_queued_jobs;
    job_options_default(&p->options);
    if (!retry && !format_dry_run(req, &p->dry_run)) {
        posting_free(p);
        return;
    }
    int err = 0;
    if (!retry)
        err = parse_posting(p);
    else if (!parse_id(request_param(req, "id"), &p->retry_of)) {
        reply_not_found(req);
        posting_free(p);
        return;
    }
    if (!err)
        err = db_write(app->db, write_posting, posting_done, p);
    if (err) {
        reply_refusal(p, err);
        posting_free(p);
    }
}

void api_jobs_post(struct request *req)
{
    start_posting(req, false);
}

void api_jobs_retry(struct request *req)
{
    start_posting(req, true);
}

/* ---- cancel ---- */

struct cancelling {
    struct request *req;
    int64_t id;
    bool conditional;        /* there was an If-Match ... */
    enum job_state expected; /* ... and this the state it was held against */
    bool stale;
    enum job_state found;
};

/* If-Match, held against what GET shows now. Whether a job's model serves already is known on the
 * loop alone, so this is looked at there; the state it had must still hold in the transaction.
 * ERR_INVALID: the state is another (c->stale); errors as jobs_get. */
static int check_match(struct cancelling *c)
{
    struct app *app = request_app(c->req);
    const char *if_match = request_header(c->req, "If-Match");
    struct job j;
    if (!if_match)
        return 0;
    int err = jobs_get(db_reader(app->db), c->id, &j);
    if (err)
        return err;
    c->conditional = true;
    c->expected = j.state;
    hold_back(app, &j);
    c->stale = !etag_allows_held(if_match, job_state_name(j.state));
    job_release(&j);
    return c->stale ? ERR_INVALID : 0;
}

static int write_cancel(struct db_txn *t, void *ctx)
{
    struct cancelling *c = ctx;
    struct job j;
    int err = jobs_get(t, c->id, &j);
    if (err)
        return err;
    c->found = j.state;
    job_release(&j);
    c->stale = c->conditional && c->found != c->expected;
    if (c->stale)
        return ERR_INVALID;
    switch (c->found) {
    case JOB_QUEUED:
    case JOB_RUNNING:
        return jobs_cancel(t, c->id, c->found);
    case JOB_CANCELLING:
    case JOB_CANCELLED:
        return 0; /* asked for again: the same answer */
    case JOB_SUCCEEDED:
    case JOB_FAILED:
        return ERR_INVALID;
    }
    return ERR_INVALID;
}

static void cancel_done(void *ctx, int err)
{
    struct cancelling *c = ctx;
    struct app *app = request_app(c->req);
    if (err == ERR_MISSING) {
        reply_not_found(c->req);
    } else if (c->stale) {
        reply_stale(c->req);
    } else if (err == ERR_INVALID) {
        reply_problem(c->req, 409, "job_finished", "Job %" PRId64 " has %s: nothing to cancel.",
                      c->id, c->found == JOB_SUCCEEDED ? "succeeded" : "failed");
    } else if (err) {
        reply_store_error(c->req, "The database said", err);
    } else {
        if (c->found == JOB_RUNNING)
            queue_cancel_running(app->queue, c->id);
        reply_job(c->req, 200, c->id);
    }
    free(c);
}

void api_jobs_cancel(struct request *req)
{
    struct app *app = request_app(req);
    struct cancelling *c = calloc(1, sizeof *c);
    if (!c) {
        reply_json(req, 500, NULL);
        return;
    }
    c->req = req;
    if (!parse_id(request_param(req, "id"), &c->id)) {
        reply_not_found(req);
        free(c);
        return;
    }
    int err = check_match(c);
    if (!err)
        err = db_write(app->db, write_cancel, cancel_done, c);
    if (err)
        cancel_done(c, err);
}

/* ---- reading ---- */

void api_jobs_get(struct request *req)
{
    int64_t id;
    if (parse_id(request_param(req, "id"), &id))
        reply_job(req, 200, id);
    else
        reply_not_found(req);
}

void api_jobs_list(struct request *req)
{
    struct app *app = request_app(req);
    struct job *jobs;
    int64_t before;
    int limit, count;
    if (!format_page(req, &before, &limit))
        return;
    int err = jobs_list(db_reader(app->db), before, limit + 1, &jobs, &count);
    if (err) {
        reply_store_error(req, "The database said", err);
        return;
    }
    int shown = count < limit ? count : limit;
    json_t *list = json_array();
    for (int i = 0; i < shown; i++)
        json_array_append_new(list, job_json(app, &jobs[i]));
    json_t *next = count > limit ? format_token(req, jobs[shown - 1].id) : json_null();
    jobs_release(jobs, count);
    reply_json(req, 200, json_pack("{s:o, s:o}", "jobs", list, "next_page_token", next));
}

json_t *epoch_json(const struct learner_epoch *e)
{
    return json_pack("{s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "epoch", e->epoch, "pruned",
                     (int)e->pruned, "loss_class", format_real(e->loss_class), "loss_mmd",
                     format_real(e->loss_mmd), "loss_ad", format_real(e->loss_ad), "accuracy",
                     format_real(e->accuracy), "rate", format_real(e->rate), "seconds",
                     format_real(e->seconds));
}

/* ?points=: at most so many epochs. On a bad one replies 400 and returns false. */
static bool parse_points(struct request *req, int *points)
{
    const char *text = request_query(req, "points");
    int64_t number = CURVE_POINTS_MAX;
    if (text && (!parse_id(text, &number) || number < CURVE_POINTS_MIN ||
                 number > CURVE_POINTS_MAX)) {
        reply_problem(req, 400, "bad_query", "'points' must be a whole number from %d to %d.",
                      CURVE_POINTS_MIN, CURVE_POINTS_MAX);
        return false;
    }
    *points = (int)number;
    return true;
}

void api_jobs_metrics(struct request *req)
{
    struct db_txn *t = db_reader(request_app(req)->db);
    struct learner_epoch *epochs;
    struct job j;
    int64_t id;
    int count, points;
    if (!parse_points(req, &points))
        return;
    int err = parse_id(request_param(req, "id"), &id) ? jobs_get(t, id, &j) : ERR_MISSING;
    if (err == ERR_MISSING) {
        reply_not_found(req);
        return;
    }
    if (!err) {
        job_release(&j);
        err = jobs_metrics(t, id, &epochs, &count);
    }
    if (err) {
        reply_store_error(req, "The database said", err);
        return;
    }
    count = curve_thin(epochs, count, points);
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, epoch_json(&epochs[i]));
    free(epochs);
    reply_json(req, 200, json_pack("{s:I, s:o}", "job", (json_int_t)id, "epochs", list));
}
