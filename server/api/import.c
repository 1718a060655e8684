/*
 * import.c - POST /api/v1/models: weights from a safetensors file become the first version.
 *
 *   handler (loop)   only where nothing was learned yet
 *   read (pool)      the file is checked; the model and its snapshot written beside the spool
 *   publish (db)     one transaction: a job that has succeeded, the version, its classes; the files are renamed
 *                    to where the rows say
 *   published (loop) it serves
 *
 * The job is there because every version has one: it holds the architecture that later jobs build on. What a crash
 * leaves is swept at the next start, as after a training job.
 */
#include "server/api/api.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/err.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"
#include "core/storage/container.h"
#include "server/api/models.h"
#include "server/app.h"
#include "server/export/safetensors.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/jobs/options.h"
#include "server/jobs/predictor.h"
#include "server/log.h"
#include "server/store/jobs.h"
#include "server/store/versions.h"
#include "server/work.h"

enum { PATH_BYTES = 4400 };

struct importing {
    struct request *req;
    struct app *app;
    struct refusal why; /* code "" unless refused */
    int err;
    struct safetensors file;
    char model_path[PATH_BYTES], snapshot_path[PATH_BYTES]; /* beside the spool */
    uint64_t model_bytes, snapshot_bytes;
    char *options;
    struct serving *serving;
    int64_t version;
};

static void importing_free(struct importing *i)
{
    unlink(i->model_path); /* unless renamed */
    unlink(i->snapshot_path);
    safetensors_release(&i->file);
    free(i->options);
    serving_release(i->serving);
    free(i);
}

/* ---- read: on the pool ---- */

static int parse(struct importing *i, const void *data, size_t size_bytes)
{
    char why[256];
    int err = safetensors_read(&i->file, data, size_bytes, i->app->isa, why, sizeof why);
    if (err == ERR_FORMAT)
        return refuse(&i->why, 422, "bad_safetensors", "The file cannot be imported: %s.", why);
    return err;
}

static int read_spool(struct importing *i)
{
    uint64_t size_bytes;
    int fd = open(request_spool(i->req, &size_bytes), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ERR_IO;
    void *data = mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED)
        return ERR_NOMEM;
    int err = parse(i, data, size_bytes);
    munmap(data, size_bytes);
    return err;
}

/* The snapshot keeps every weight, rounded: nothing is known of what could be spared. */
static int write_snapshot(struct importing *i, struct model *rounded)
{
    uint8_t *mask = malloc(rounded->net->params.count);
    if (!mask)
        return ERR_NOMEM;
    int err = mask_by_magnitude(rounded->net, rounded->params, NULL, 1, mask);
    if (!err)
        err = snapshot_round(rounded, mask, SNAPSHOT_HALF);
    if (!err)
        err = snapshot_save(rounded, mask, SNAPSHOT_HALF, i->snapshot_path, &i->snapshot_bytes);
    free(mask);
    return err;
}

static int write_files(struct importing *i)
{
    struct model *rounded = NULL;
    uint64_t size_bytes;
    const char *spool = request_spool(i->req, &size_bytes);
    snprintf(i->model_path, PATH_BYTES, "%s.model", spool);
    snprintf(i->snapshot_path, PATH_BYTES, "%s.snapshot", spool);
    int err = model_save(i->file.model, i->model_path, &i->model_bytes);
    if (!err)
        err = model_load(&rounded, i->model_path, i->app->isa);
    if (!err)
        err = write_snapshot(i, rounded);
    model_release(rounded);
    return err;
}

/* The options a job would have had that made this model, for the jobs that build on it. */
static int make_options(struct importing *i)
{
    struct job_options o;
    const struct model *m = i->file.model;
    const struct resnet_spec *s = &m->net->spec;
    job_options_default(&o);
    o.learner.arch = s->arch;
    o.learner.blocks = s->blocks;
    o.learner.classifier = m->classifier;
    o.learner.mirror = m->view.mirrored;
    o.learner.feature_power = m->view.power;
    o.learner.prune_keep = 1;
    o.learner.prune_epochs = 0;
    o.learner.prune_bits = SNAPSHOT_HALF;
    o.channels = s->channels;
    o.height = s->height;
    o.width = s->width;
    return job_options_dump(&o, &i->options);
}

static void run_read(void *ctx)
{
    struct importing *i = ctx;
    i->err = read_spool(i);
    if (!i->err)
        i->err = write_files(i);
    if (!i->err)
        i->err = make_options(i);
    if (!i->err) /* its number is given with the rows */
        i->err = serving_new(&i->serving, 0, i->file.model, (const char *const *)i->file.labels);
}

/* ---- publish: on the db thread ---- */

static int refuse_initialised(struct importing *i)
{
    return refuse(&i->why, 409, "already_initialised",
                  "A model is there already, and an import can only be the first version. Start a "
                  "daemon on an empty data directory for it.");
}

/* Nothing learned, and nothing about to be. */
static int check_empty(struct db_txn *t, struct importing *i)
{
    struct version active;
    struct job *open;
    int count;
    int err = versions_active(t, &active);
    if (err != ERR_MISSING)
        return err ? err : refuse_initialised(i);
    err = jobs_list_open(t, &open, &count);
    if (err)
        return err;
    jobs_release(open, count);
    return count == 0 ? 0
                      : refuse(&i->why, 409, "jobs_open",
                               "A job is queued or running. Cancel it, import, then post it "
                               "again: it will build on the imported model.");
}

static int insert_rows(struct db_txn *t, struct importing *i)
{
    int64_t job;
    int classes = i->file.model->net->spec.classes;
    struct evaluation nothing = {.classes = classes};
    nothing.confusion = calloc((size_t)classes * (size_t)classes, sizeof *nothing.confusion);
    if (!nothing.confusion)
        return ERR_NOMEM;
    int err = versions_next(t, &i->version);
    if (!err)
        err = jobs_insert(t, i->options, NULL, 0, 0, NULL, &job);
    if (!err)
        err = jobs_start(t, job, conv_isa_name(i->app->isa), 1);
    if (!err)
        err = jobs_set_plan(t, job, i->options, 0);
    struct version v = {
        .version = i->version,
        .job = err ? 0 : job,
        .step = 1,
        .active = true,
        .classes = classes,
        .model_bytes = (int64_t)i->model_bytes,
        .snapshot_bytes = (int64_t)i->snapshot_bytes,
        .dense_bytes = (int64_t)model_dense_bytes(i->file.model),
        .accuracy_dense = NAN,
        .accuracy_pruned = NAN,
        .created_ms = db_now_ms(),
    };
    if (!err)
        err = versions_insert(t, &v, (const char *const *)i->file.labels, 0, &nothing,
                              &nothing);
    if (!err)
        err = jobs_succeed(t, job, v.version, true, true);
    free(nothing.confusion);
    return err;
}

static int publish(struct db_txn *t, void *ctx)
{
    struct importing *i = ctx;
    char path[PATH_BYTES];
    int err = check_empty(t, i);
    if (!err)
        err = insert_rows(t, i);
    if (err)
        return err;
    data_path_number(path, sizeof path, i->app->config.data_dir, "models", i->version);
    err = durable_rename(i->model_path, path);
    data_path_number(path, sizeof path, i->app->config.data_dir, "snapshots", i->version);
    return err ? err : durable_rename(i->snapshot_path, path);
}

/* ---- on the loop ---- */

static void reply_error(struct importing *i, int err)
{
    if (i->why.code[0])
        reply_problem(i->req, i->why.status, i->why.code, "%s", i->why.detail);
    else if (err == ERR_NOMEM)
        reply_problem(i->req, 503, "no_memory", "Out of memory; try again later.");
    else if (err == ERR_NOSPACE)
        reply_problem(i->req, 507, "disk_full",
                      "The data directory is full. Free some room and retry.");
    else
        reply_problem(i->req, 500, "io_error",
                      "The model could not be stored: %s. The daemon's log tells more.",
                      err_str(err));
}

static void published(void *ctx, int status)
{
    struct importing *i = ctx;
    char location[64];
    if (status) {
        reply_error(i, status);
    } else {
        i->serving->version = i->version;
        predictor_swap_committed(i->app->predictor, i->serving);
        i->serving = NULL;
        log_info("version %" PRId64 " was imported", i->version);
        snprintf(location, sizeof location, "/api/v1/models/%" PRId64, i->version);
        reply_header(i->req, "Location", location);
        reply_model(i->req, 201, i->version);
    }
    importing_free(i);
}

static void read_done(void *ctx)
{
    struct importing *i = ctx;
    int err = i->err;
    if (!err)
        err = db_write(i->app->db, publish, published, i);
    if (!err)
        return;
    reply_error(i, err);
    importing_free(i);
}

void api_models_post(struct request *req)
{
    struct app *app = request_app(req);
    const char *format = request_query(req, "format");
    uint64_t size_bytes;
    request_spool(req, &size_bytes);
    if (!format || strcmp(format, "safetensors") != 0) {
        reply_problem(req, 400, "bad_query",
                      "Models are imported with ?format=safetensors; there is no other format.");
        return;
    }
    if (size_bytes == 0) {
        reply_problem(req, 400, "empty_body", "Send a safetensors file as the body.");
        return;
    }
    struct importing *i = calloc(1, sizeof *i);
    if (!i) {
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
        return;
    }
    i->req = req;
    i->app = app;
    int err = check_empty(db_reader(app->db), i);
    if (!err)
        err = work_run(app->loop, run_read, read_done, i);
    if (err) {
        reply_error(i, err);
        importing_free(i);
    }
}
