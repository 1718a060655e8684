/*
 * metrics.c - GET /metrics: the Prometheus text format (0.0.4).
 *
 * Everything is read at the moment of the scrape: counters of the HTTP front and the predictor,
 * sums over the database, the running job, the process. Labels are route patterns, states and step
 * numbers, never ids or names that clients choose, so the number of series is bounded. What is not
 * known is left out, as Prometheus wants it.
 */
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/history.h"
#include "server/app.h"
#include "server/data_dir.h"
#include "server/http/auth.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/jobs/predictor.h"
#include "server/jobs/queue.h"
#include "server/store/figures.h"
#include "server/store/totals.h"
#include "server/store/versions.h"

#define P "accreted_"

static void head(FILE *f, const char *name, const char *type, const char *help)
{
    fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A metric of one sample; NaN: not known, left out. */
static void put(FILE *f, const char *name, const char *type, const char *help, double value)
{
    if (isnan(value))
        return;
    head(f, name, type, help);
    fprintf(f, "%s %.15g\n", name, value);
}

/* ---- requests ---- */

static const char *method_of(const struct traffic *t)
{
    return t->route ? t->route->method : "none";
}

static const char *route_of(const struct traffic *t)
{
    return t->route ? t->route->pattern : "none";
}

static void put_latency(FILE *f, const struct traffic *t)
{
    const char *name = P "http_request_duration_seconds";
    for (int b = 0; b < TRAFFIC_BUCKETS; b++)
        fprintf(f, "%s_bucket{method=\"%s\",route=\"%s\",le=\"%.15g\"} %" PRIu64 "\n", name,
                method_of(t), route_of(t), traffic_bounds[b], t->buckets[b]);
    fprintf(f, "%s_bucket{method=\"%s\",route=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name,
            method_of(t), route_of(t), t->count);
    fprintf(f, "%s_sum{method=\"%s\",route=\"%s\"} %.9f\n", name, method_of(t), route_of(t),
            (double)t->sum_ns / 1e9);
    fprintf(f, "%s_count{method=\"%s\",route=\"%s\"} %" PRIu64 "\n", name, method_of(t),
            route_of(t), t->count);
}

static void put_requests(FILE *f, struct app *app)
{
    int count;
    const struct traffic *t = http_traffic(app->http, &count);
    head(f, P "http_requests_total", "counter", "Requests answered, by route and status.");
    for (int i = 0; i < count; i++)
        for (int c = 0; c < TRAFFIC_CODES && t[i].codes[c].status; c++)
            fprintf(f,
                    P "http_requests_total{method=\"%s\",route=\"%s\",code=\"%d\"} %" PRIu64 "\n",
                    method_of(&t[i]), route_of(&t[i]), t[i].codes[c].status, t[i].codes[c].count);
    head(f, P "http_request_duration_seconds", "histogram",
         "From the headers of a request to the end of its reply, event streams aside.");
    for (int i = 0; i < count; i++)
        if (t[i].count)
            put_latency(f, &t[i]);
    head(f, P "auth_refused_total", "counter", "Requests refused for want of a token or of scope.");
    fprintf(f, P "auth_refused_total{code=\"401\"} %" PRIu64 "\n", auth_refused(app->auth, 401));
    fprintf(f, P "auth_refused_total{code=\"403\"} %" PRIu64 "\n", auth_refused(app->auth, 403));
}

/* ---- predictions ---- */

static void put_summary(FILE *f, const char *name, const char *help, double seconds, double count)
{
    head(f, name, "summary", help);
    fprintf(f, "%s_sum %.9f\n%s_count %.15g\n", name, seconds, name, count);
}

static void put_predictions(FILE *f, struct app *app)
{
    struct predictor_stats s;
    predictor_stats(app->predictor, 0, &s);
    head(f, P "inference_requests_total", "counter", "Requests for predictions, by outcome.");
    fprintf(f, P "inference_requests_total{model=\"accreted\",outcome=\"success\"} %" PRIu64 "\n",
            s.tasks);
    fprintf(f, P "inference_requests_total{model=\"accreted\",outcome=\"failure\"} %" PRIu64 "\n",
            s.failed_tasks);
    put(f, P "inference_images_total", "counter", "Images classified.", (double)s.images);
    put_summary(f, P "inference_duration_seconds", "From the whole request to its result.",
                (double)s.task_ns / 1e9, (double)s.tasks);
    put_summary(f, P "inference_queue_duration_seconds", "Part of it spent waiting for a turn.",
                (double)s.queue_ns / 1e9, (double)s.tasks);
    put(f, P "inference_pending_requests", "gauge", "Requests for predictions under way.",
        predictor_pending(app->predictor));
}

/* ---- jobs ---- */

static double seconds_since(const struct stat *st)
{
    double age = (double)(db_now_ms() / 1000 - st->st_mtim.tv_sec);
    return age > 0 ? age : 0;
}

static void put_running_job(FILE *f, struct app *app)
{
    char path[4400];
    struct stat st;
    int64_t id = queue_running(app->queue);
    json_t *live = id ? queue_live(app->queue, id) : NULL;
    json_t *eta = json_object_get(live, "eta_seconds");
    data_path_number(path, sizeof path, app->config.data_dir, "checkpoints", id);
    put(f, P "job_progress_ratio", "gauge", "Of the running job, 0 to 1; absent while none runs.",
        live ? json_number_value(json_object_get(live, "progress")) : NAN);
    put(f, P "job_eta_seconds", "gauge", "Until the running job ends, once that can be told.",
        json_is_number(eta) ? json_number_value(eta) : NAN);
    put(f, P "checkpoint_age_seconds", "gauge", "Of the running job's newest checkpoint.",
        id && stat(path, &st) == 0 ? seconds_since(&st) : NAN);
    json_decref(live);
}

static void put_jobs(FILE *f, struct app *app, const struct figures *t)
{
    head(f, P "jobs", "gauge", "Jobs in each state, as the database has them.");
    for (int s = 0; s < JOB_STATES; s++)
        fprintf(f, P "jobs{state=\"%s\"} %" PRId64 "\n", job_state_name((enum job_state)s),
                t->jobs[s]);
    head(f, P "jobs_total", "counter", "Jobs that have ended, by outcome; kept over restarts.");
    for (int s = 0; s < JOB_STATES; s++)
        if (job_state_is_final((enum job_state)s))
            fprintf(f, P "jobs_total{outcome=\"%s\"} %" PRId64 "\n",
                    job_state_name((enum job_state)s), t->jobs[s]);
    put_summary(f, P "job_duration_seconds", "From start to end, of jobs that have ended.",
                (double)t->finished_ms / 1e3, (double)t->finished);
    put_running_job(f, app);
    put(f, P "train_samples_total", "counter", "Images trained on, once an epoch.",
        (double)t->train_samples);
    put(f, P "train_loss", "gauge", "Classification loss of the latest epoch.", t->loss);
    put(f, P "recoveries_total", "counter", "Times a job went on after the daemon ended under it.",
        (double)t->restarts);
    put(f, P "corruptions_detected_total", "counter", "Jobs that failed for a damaged file.",
        (double)t->damaged);
}

/* ---- the model and the store ---- */

static void put_accuracy(FILE *f, const struct measures *m)
{
    head(f, P "model_accuracy_ratio", "gauge",
         "Of the active version on the test images of each step (task), 0 to 1.");
    for (int i = 0; i < m->steps; i++) {
        double value = m->matrix[(m->steps - 1) * m->steps + i];
        if (!isnan(value))
            fprintf(f, P "model_accuracy_ratio{task=\"%d\"} %.15g\n", i + 1, value);
    }
    put(f, P "model_average_incremental_accuracy_ratio", "gauge",
        "Mean of the accuracies after each step.", m->average_incremental);
    put(f, P "model_forgetting_ratio", "gauge",
        "Mean over earlier steps of their best accuracy minus the present one.",
        m->forgetting_mean);
}

static int put_model(FILE *f, struct app *app)
{
    struct version v;
    struct measures m = {0};
    struct class_row *classes;
    int count;
    struct db_txn *t = db_reader(app->db);
    int err = versions_active(t, &v);
    if (err)
        return err == ERR_MISSING ? 0 : err;
    err = classes_of(t, 0, &classes, &count);
    if (err)
        return err;
    put(f, P "model_version", "gauge", "Version that serves.", (double)v.version);
    put(f, P "model_classes", "gauge", "Classes it knows.", classes_live(classes, count));
    free(classes);
    err = history_measures(t, &m);
    if (!err)
        put_accuracy(f, &m);
    measures_release(&m);
    return err;
}

static void put_store(FILE *f, struct app *app, const struct totals *t)
{
    const struct {
        const char *kind;
        int64_t bytes;
    } kinds[] = {
        {"training_images", t->training_images.bytes},
        {"test_images", t->test_images.bytes},
        {"models", t->models.bytes},
        {"snapshots", t->snapshots.bytes},
        {"database", t->database_bytes},
    };
    uint64_t free_bytes;
    head(f, P "store_bytes", "gauge", "What is kept, by kind.");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        fprintf(f, P "store_bytes{kind=\"%s\"} %" PRId64 "\n", kinds[i].kind, kinds[i].bytes);
    put(f, P "store_free_bytes", "gauge", "Free room on the data directory's disk.",
        data_dir_room(app->config.data_dir, &free_bytes) ? NAN : (double)free_bytes);
    put(f, P "store_min_free_bytes", "gauge", "Room that uploads and jobs leave alone.",
        (double)app->config.min_free_bytes);
}

/* ---- the process ---- */

static double count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double count = -3; /* ".", ".." and the directory itself */
    if (!dir)
        return NAN;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void put_process(FILE *f, const struct app *app)
{
    struct rusage use;
    struct rlimit fds;
    long pages = 0, resident = 0, page_bytes = sysconf(_SC_PAGESIZE);
    FILE *statm = fopen("/proc/self/statm", "re");
    bool known = statm && fscanf(statm, "%ld %ld", &pages, &resident) == 2;
    if (statm)
        fclose(statm);
    getrusage(RUSAGE_SELF, &use);
    put(f, "process_cpu_seconds_total", "counter", "User and system CPU time.",
        (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
            (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
    put(f, "process_resident_memory_bytes", "gauge", "Resident memory.",
        known ? (double)resident * (double)page_bytes : NAN);
    put(f, "process_virtual_memory_bytes", "gauge", "Virtual memory.",
        known ? (double)pages * (double)page_bytes : NAN);
    put(f, "process_open_fds", "gauge", "Open file descriptors.", count_fds());
    put(f, "process_max_fds", "gauge", "Most file descriptors there may be.",
        getrlimit(RLIMIT_NOFILE, &fds) == 0 ? (double)fds.rlim_cur : NAN);
    put(f, "process_start_time_seconds", "gauge", "Start, in Unix time.",
        (double)app->started_ms / 1e3);
    head(f, P "build_info", "gauge", "1, with the version and the kernels in use.");
    fprintf(f, P "build_info{version=\"" ACCRETED_VERSION "\",kernels=\"%s\"} 1\n",
            conv_isa_name(app->isa));
}

static int write_metrics(FILE *f, struct app *app)
{
    struct figures figures;
    struct totals totals;
    int err = figures_read(db_reader(app->db), &figures);
    if (!err)
        err = totals_read(db_reader(app->db), &totals);
    if (err)
        return err;
    put_requests(f, app);
    put_predictions(f, app);
    put_jobs(f, app, &figures);
    put_store(f, app, &totals);
    put_process(f, app);
    return put_model(f, app);
}

void api_metrics(struct request *req)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int err = f ? write_metrics(f, request_app(req)) : ERR_NOMEM;
    if (f && fclose(f) != 0)
        err = ERR_NOMEM;
    if (err)
        reply_problem(req, 500, "internal_error", "The metrics cannot be read: %s. See the log.",
                      err_str(err));
    else
        reply_copy(req, 200, "text/plain; version=0.0.4; charset=utf-8", text, size);
    free(text);
}
