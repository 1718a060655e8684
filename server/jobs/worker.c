/*
 * worker.c - see worker.h.
 *
 * Order of a publication, so that a crash at any point leaves the old version or the new one: model
 * and snapshot files (durable, by the learner) -> one transaction with everything in it -> checkpoint
 * and training packs deleted -> the loop swaps the model that serves. What a crash leaves behind is
 * swept at the next start (recovery.h).
 */
#include "server/jobs/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "server/app.h"
#include "server/data_dir.h"
#include "server/jobs/data.h"
#include "server/jobs/gate.h"
#include "server/jobs/plan.h"
#include "server/jobs/predictor.h"
#include "server/log.h"
#include "server/store/jobs.h"
#include "server/store/versions.h"
#include "server/work.h"

enum { PATH_BYTES = 4400, RETRY_SECONDS = 1 };

struct worker {
    struct app *app;
    int64_t job;
    void (*done)(void *ctx, struct worker *w);
    void *ctx;
    atomic_int command;
    atomic_bool stopping;              /* the daemon is, whatever the command was before */

    pthread_mutex_t lock;              /* guards the next four */
    struct learner_progress progress;
    double first_fraction;             /* where training began or went on, and when */
    uint64_t begun_ns, now_ns;

    /* the pool thread's */
    int gang;
    struct plan plan;
    struct job_options options;        /* with the input's shape */
    struct data_set train;
    struct dataset test;
    struct model *base;
    char **snapshot_paths;
    char checkpoint_path[PATH_BYTES], model_path[PATH_BYTES], snapshot_path[PATH_BYTES];
    char exemplars_path[PATH_BYTES];
    struct learner_result result;
    bool published; /* its version took over */
    struct serving *serving;
    struct refusal why;                /* code "" until something is refused */
};

/* ---- progress ---- */

const char *worker_phase_name(enum learner_phase phase)
{
    switch (phase) {
    case PHASE_PREPARE:
        return "validate";
    case PHASE_DISTIL:
        return "distil";
    case PHASE_TRAIN:
        return "train";
    case PHASE_PRUNE:
        return "prune";
    case PHASE_EVALUATE:
        return "evaluate";
    case PHASE_PUBLISH:
        return "publish";
    }
    return "validate";
}

/* A fact about the job on its way to the database. */
struct note {
    int64_t job;
    struct learner_epoch epoch;
    struct learner_progress progress;
};

static int write_epoch(struct db_txn *t, void *ctx)
{
    const struct note *n = ctx;
    return jobs_put_epoch(t, n->job, &n->epoch, n->progress.fraction,
                          n->progress.images_per_second);
}

static int write_phase(struct db_txn *t, void *ctx)
{
    const struct note *n = ctx;
    return jobs_set_phase(t, n->job, worker_phase_name(n->progress.phase), n->progress.fraction);
}

static void note_done(void *ctx, int status)
{
    struct note *n = ctx;
    if (status)
        log_warning("progress of job %" PRId64 " was not stored: %s", n->job, err_str(status));
    free(n);
}

/* Posted without waiting: the learner must not stand still for a disk. */
static void post_note(struct worker *w, db_write_fn write, const struct learner_epoch *e,
                      const struct learner_progress *p)
{
    struct note *n = calloc(1, sizeof *n);
    if (!n)
        return;
    n->job = w->job;
    n->progress = *p;
    if (e)
        n->epoch = *e;
    if (db_write(w->app->db, write, note_done, n))
        free(n);
}

static void on_progress(void *ctx, const struct learner_progress *p)
{
    struct worker *w = ctx;
    pthread_mutex_lock(&w->lock);
    bool new_phase = p->phase != w->progress.phase;
    if (w->begun_ns == 0 && p->phase >= PHASE_TRAIN) { /* a checkpoint was loaded before that */
        w->begun_ns = uv_hrtime();
        w->first_fraction = p->fraction;
    }
    w->now_ns = uv_hrtime();
    w->progress = *p;
    pthread_mutex_unlock(&w->lock);
    if (new_phase)
        post_note(w, write_phase, NULL, p);
}

static void on_epoch(void *ctx, const struct learner_epoch *e)
{
    struct worker *w = ctx;
    pthread_mutex_lock(&w->lock);
    struct learner_progress p = w->progress;
    pthread_mutex_unlock(&w->lock);
    post_note(w, write_epoch, e, &p);
}

json_t *worker_live(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    struct learner_progress p = w->progress;
    double seconds = (double)(w->now_ns - w->begun_ns) / 1e9;
    double since = w->begun_ns ? (double)(uv_hrtime() - w->now_ns) / 1e9 : 0;
    double gained = w->begun_ns ? p.fraction - w->first_fraction : 0;
    pthread_mutex_unlock(&w->lock);
    /* Too little done says too little about the rest. */
    double eta = gained >= 0.05 ? fmax(0, seconds * (1 - p.fraction) / gained - since) : NAN;
    return json_pack("{s:s, s:f, s:o, s:o}", "phase", worker_phase_name(p.phase), "progress",
                     p.fraction, "eta_seconds",
                     isnan(eta) ? json_null() : json_real(round(10 * eta) / 10),
                     "images_per_second",
                     p.images_per_second > 0 ? json_real(round(10 * p.images_per_second) / 10)
                                             : json_null());
}

/* ---- begin ---- */

static int write_begin(struct db_txn *t, void *ctx)
{
    struct worker *w = ctx;
    return jobs_start(t, w->job, conv_isa_name(w->app->isa), w->gang);
}

static int write_plan(struct db_txn *t, void *ctx)
{
    struct worker *w = ctx;
    return plan_for_start(t, w->job, &w->plan, &w->why);
}

static int write_options(struct db_txn *t, void *ctx)
{
    struct worker *w = ctx;
    char *text;
    int err = job_options_dump(&w->options, &text);
    if (err)
        return err;
    err = jobs_set_plan(t, w->job, text, w->train.images.count - w->train.exemplars);
    free(text);
    return err;
}

static int check_disk(struct worker *w)
{
    const struct config *config = &w->app->config;
    return data_dir_check_room(config->data_dir, config->min_free_bytes, 0);
}

/* The model to build on and the snapshots that teach. */
static int load_base(struct worker *w)
{
    char path[PATH_BYTES];
    const struct plan *p = &w->plan;
    const char *dir = w->app->config.data_dir;
    int err = version_load(&w->base, dir, p->base, w->app->isa, NULL);
    if (!err)
        err = plan_accept_base(p, w->base);
    if (err)
        return refuse(&w->why, 500, "model_unreadable",
                      "Model version %" PRId64 " cannot be read (%s). Restore models/%" PRId64
                      " and snapshots/%" PRId64 ", and those of the versions before it, of the data "
                      "directory from a backup.",
                      p->base, err_str(err), p->base, p->base);
    w->snapshot_paths = calloc((size_t)p->chain_count, sizeof *w->snapshot_paths);
    if (!w->snapshot_paths)
        return ERR_NOMEM;
    for (int i = 0; i < p->chain_count; i++) {
        data_path_number(path, sizeof path, dir, "snapshots", p->chain[i]);
        if (access(path, R_OK) != 0)
            return refuse(&w->why, 500, "snapshot_missing",
                          "The snapshot of version %" PRId64 " is missing. Restore "
                          "snapshots/%" PRId64 " of the data directory from a backup.",
                          p->chain[i], p->chain[i]);
        w->snapshot_paths[i] = strdup(path);
        if (!w->snapshot_paths[i])
            return ERR_NOMEM;
    }
    return 0;
}

/* Everything the learner needs, in memory. */
static int prepare(struct worker *w)
{
    struct data_source source = {w->app->config.data_dir, &w->plan, &w->command};
    const char *dir = w->app->config.data_dir;
    int err = db_write_wait(w->app->db, write_plan, w);
    if (err)
        return err;
    w->options = w->plan.options;
    w->options.learner.gang = w->gang;
    w->options.learner.nice_level = w->app->config.nice_level;
    data_path_number(w->checkpoint_path, PATH_BYTES, dir, "checkpoints", w->job);
    data_path_number(w->model_path, PATH_BYTES, dir, "models", w->plan.version);
    data_path_number(w->snapshot_path, PATH_BYTES, dir, "snapshots", w->plan.version);
    data_path_number(w->exemplars_path, PATH_BYTES, dir, "exemplars", w->plan.version);
    err = check_disk(w);
    if (!err && w->plan.base)
        err = load_base(w);
    if (!err)
        err = data_choose_input(&source, &w->options, &w->why);
    if (!err)
        err = data_train(&source, &w->options, &w->train, &w->why);
    if (!err)
        learner_settle_method(&w->options.learner, &w->train.images, w->train.exemplars, w->base);
    if (!err)
        err = data_test(&source, &w->options, &w->test);
    if (!err)
        err = db_write_wait(w->app->db, write_options, w);
    return err;
}

/* ---- learning and publishing ---- */

static int learn(struct worker *w)
{
    struct learner_job job = {
        .options = &w->options.learner,
        .train = &w->train.images,
        .exemplars = w->train.exemplars,
        .test = &w->test,
        .classes = w->plan.classes,
        .base = w->base,
        .snapshot_paths = (const char *const *)w->snapshot_paths,
        .checkpoint_path = w->checkpoint_path,
        .model_path = w->model_path,
        .snapshot_path = w->snapshot_path,
        .command = &w->command,
        .on_progress = on_progress,
        .on_epoch = on_epoch,
        .ctx = w,
    };
    return learner_run(&job, &w->result);
}

/* Counts of the steps the active version knows, and of their classes as it knows them, under it and under the new one. */
static int count_steps(struct db_txn *t, const struct worker *w, struct gate_step *steps)
{
    const struct evaluation *after = &w->result.dense;
    struct class_row *classes = NULL;
    struct class_score *before = NULL;
    int class_count = 0, score_count = 0;
    int err = classes_of(t, 0, &classes, &class_count);
    if (!err)
        err = evaluations_active(t, &before, &score_count);
    for (int i = 0; i < w->plan.chain_count; i++)
        steps[i].gone = true;
    for (int c = 0; c < class_count && !err; c++) {
        struct gate_step *s = &steps[classes[c].step - 1];
        s->gone &= classes[c].position < 0;
        s->after_total += evaluation_total(after, c);
        s->after_correct += evaluation_correct(after, c);
    }
    for (int i = 0; i < score_count && !err; i++) {
        struct gate_step *s = &steps[classes[before[i].class_index].step - 1];
        s->before_total += before[i].total;
        s->before_correct += before[i].correct;
    }
    free(classes);
    free(before);
    return err;
}

/* May the new version take over, and the gate's words for it (owned by the caller). */
static int ask_gate(struct db_txn *t, const struct worker *w, bool *passes, char **words)
{
    int count = w->plan.chain_count;
    struct gate_step *steps = calloc((size_t)count + 1, sizeof *steps);
    int err = steps ? 0 : ERR_NOMEM;
    if (!err && count > 0)
        err = count_steps(t, w, steps);
    if (err)
        goto out;
    struct gate gate = gate_judge((double)w->options.gate, steps, count);
    json_t *json = gate_json(&gate, steps, count);
    *words = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(json);
    err = *words ? 0 : ERR_NOMEM;
    *passes = gate.verdict != GATE_HELD_BACK;
out:
    free(steps);
    return err;
}

static int write_publication(struct db_txn *t, void *ctx)
{
    struct worker *w = ctx;
    const struct plan *p = &w->plan;
    const struct learner_result *r = &w->result;
    struct version active;
    int err = versions_active(t, &active);
    if (err && err != ERR_MISSING)
        return err;
    /* After a step back meanwhile it is kept, but does not take over. */
    w->published = p->base == (err ? 0 : active.version);
    bool passes = true;
    char *gate = NULL;
    if (w->published) {
        err = ask_gate(t, w, &passes, &gate);
        if (err)
            return err;
        w->published = passes;
    }
    struct version v = {
        .version = p->version,
        .parent = p->parent,
        .refines = p->refines ? p->base : 0,
        .job = w->job,
        .step = p->step,
        .active = w->published,
        .classes = p->classes,
        .experts = r->model->expert_count,
        .model_bytes = (int64_t)r->model_bytes,
        .snapshot_bytes = (int64_t)r->snapshot_bytes,
        .dense_bytes = (int64_t)r->dense_bytes,
        .sparsity = r->sparsity,
        .accuracy_dense = evaluation_accuracy(&r->dense),
        .accuracy_pruned = evaluation_accuracy(&r->pruned),
        .created_ms = db_now_ms(),
        .train_seconds = r->train_seconds,
    };
    err = versions_insert(t, &v, (const char *const *)p->names, p->known, &r->dense, &r->pruned);
    if (!err)
        err = versions_set_gate(t, p->version, gate);
    free(gate);
    return err ? err : jobs_succeed(t, w->job, p->version, w->published, r->reproducible);
}

/* DESIGN: training images are gone once their model is published, and of the earlier versions
 * snapshots are kept. */
static void delete_what_is_done(const struct worker *w)
{
    char path[PATH_BYTES];
    const char *dir = w->app->config.data_dir;
    for (int i = 0; i < w->plan.train_count; i++)
        data_delete_training(dir, &w->plan.train[i]);
    for (int i = 0; i < w->plan.step - 1; i++) {
        data_path_number(path, sizeof path, dir, "models", w->plan.chain[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            log_warning("models/%" PRId64 " could not be deleted now; the next start tries again",
                        w->plan.chain[i]);
    }
}

/* The same of the exemplars that were in force, and of those a step back or on would have put there. */
static void forget_exemplars(const struct worker *w)
{
    if (data_exemplars_forget(w->app->config.data_dir, w->plan.served, w->plan.served_count))
        log_warning("exemplars of earlier versions could not be deleted now; the next job tries "
                    "again");
}

static int publish(struct worker *w)
{
    struct data_source source = {w->app->config.data_dir, &w->plan, &w->command};
    struct serving *serving;
    int err = serving_new(&serving, w->plan.version, w->result.model,
                          (const char *const *)w->plan.names);
    if (err)
        return err;
    err = data_keep(&source, &w->train, w->result.kept, w->result.kept_count);
    if (!err)
        err = db_write_wait(w->app->db, write_publication, w);
    if (err) {
        serving_release(serving);
        return err;
    }
    unlink(w->checkpoint_path);
    if (w->published) {
        w->serving = serving;
        delete_what_is_done(w);
        forget_exemplars(w);
    } else {
        serving_release(serving);
    }
    return 0;
}

/* ---- end ---- */

/* The API's code and advice for an error that no rule explained. */
static const struct {
    enum err err;
    const char *code, *detail;
} advice[] = {
    {ERR_NOMEM, "no_memory",
     "Memory ran out. Post the job again with a smaller batch, input or depth."},
    {ERR_NOSPACE, "disk_full",
     "Too little room is left in the data directory. Free some, then post the job again."},
    {ERR_DIVERGED, "diverged",
     "The loss became infinite. Post the job again with a smaller 'lr'."},
    {ERR_NUMERIC, "numeric_error",
     "The prototypes could not be carried over. Post the job again with a smaller 'lr'."},
    {ERR_IO, "io_error",
     "The data directory could not be read or written. Check the disk, then post the job again."},
    {ERR_FORMAT, "snapshot_damaged",
     "A snapshot is not readable, or another model's. Restore the data directory from a backup."},
    {ERR_CORRUPT, "snapshot_damaged",
     "A snapshot or checkpoint is damaged. Restore the data directory from a backup."},
    {ERR_MISSING, "snapshot_missing",
     "A file of the data directory is missing. Restore it from a backup."},
};

static void explain(struct refusal *why, int err)
{
    for (size_t i = 0; i < sizeof advice / sizeof advice[0]; i++) {
        if ((int)advice[i].err == err) {
            refuse(why, 500, advice[i].code, "%s", advice[i].detail);
            return;
        }
    }
    refuse(why, 500, "internal_error", "The job met a fault in accreted itself (%s). See the log.",
           err_str(err));
}

/* For writes that must not be lost: goes on until the row is written or refuses, or the daemon
 * stops. A row that says running while nothing runs would be a lie. */
static int write_surely(struct worker *w, db_write_fn write)
{
    for (;;) {
        int err = db_write_wait(w->app->db, write, w);
        if (err != ERR_IO && err != ERR_NOSPACE && err != ERR_NOMEM)
            return err;
        if (atomic_load(&w->stopping))
            return err;
        sleep(RETRY_SECONDS);
    }
}

static int write_stopped(struct db_txn *t, void *ctx)
{
    struct worker *w = ctx;
    return jobs_mark_stopped(t, w->job);
}

/* A cancelled job ends cancelled, whatever it met on the way. */
static int write_end(struct db_txn *t, void *ctx)
{
    struct worker *w = ctx;
    int err = jobs_cancelled(t, w->job);
    return err == ERR_INVALID ? jobs_fail(t, w->job, w->why.code, w->why.detail) : err;
}

static void end(struct worker *w, int err)
{
    if (err == ERR_STOPPED) {
        err = db_write_wait(w->app->db, write_stopped, w);
        if (err && err != ERR_INVALID) /* that one: cancelled meanwhile, the next start ends it */
            log_warning("job %" PRId64 ": the stop was not noted: %s", w->job, err_str(err));
        return;
    }
    if (!w->why.code[0])
        explain(&w->why, err);
    unlink(w->checkpoint_path);
    unlink(w->model_path);
    unlink(w->snapshot_path);
    unlink(w->exemplars_path);
    err = write_surely(w, write_end);
    if (err)
        log_error("job %" PRId64 ": its end was not stored: %s", w->job, err_str(err));
}

static void run(void *ctx)
{
    struct worker *w = ctx;
    int err = write_surely(w, write_begin);
    if (err) { /* cancelled before it began, or the daemon stops: then it stays queued */
        log_info("job %" PRId64 " did not begin: %s", w->job, err_str(err));
        return;
    }
    log_info("job %" PRId64 " runs on %d threads (%s)", w->job, w->gang,
             conv_isa_name(w->app->isa));
    err = prepare(w);
    if (!err)
        err = learn(w);
    if (!err)
        err = publish(w);
    if (err) {
        log_info("job %" PRId64 " ends: %s", w->job, w->why.code[0] ? w->why.code : err_str(err));
        end(w, err);
    } else {
        log_info("job %" PRId64 " %s version %" PRId64, w->job,
                 w->published ? "published" : "keeps back", w->plan.version);
    }
}

/* ---- life ---- */

static void on_done(void *ctx)
{
    struct worker *w = ctx;
    w->done(w->ctx, w);
}

int worker_start(struct worker **out, struct app *app, int64_t id,
                 void (*done)(void *ctx, struct worker *w), void *ctx)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_NOMEM;
    w->app = app;
    w->job = id;
    w->done = done;
    w->ctx = ctx;
    w->gang = app->config.threads > 0 ? app->config.threads : (int)uv_available_parallelism();
    atomic_init(&w->command, COMMAND_RUN);
    pthread_mutex_init(&w->lock, NULL);
    int err = work_run(app->loop, run, on_done, w);
    if (err)
        worker_free(w);
    else
        *out = w;
    return err;
}

void worker_free(struct worker *w)
{
    for (int i = 0; w->snapshot_paths && i < w->plan.chain_count; i++)
        free(w->snapshot_paths[i]);
    free(w->snapshot_paths);
    learner_result_release(&w->result);
    data_set_release(&w->train);
    dataset_release(&w->test);
    model_release(w->base);
    plan_release(&w->plan);
    serving_release(w->serving);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

int64_t worker_job(const struct worker *w)
{
    return w->job;
}

void worker_command(struct worker *w, enum learner_command command)
{
    int run_word = COMMAND_RUN;
    if (command == COMMAND_STOP)
        atomic_store(&w->stopping, true);
    atomic_compare_exchange_strong(&w->command, &run_word, (int)command);
}

struct serving *worker_take_serving(struct worker *w)
{
    struct serving *s = w->serving;
    w->serving = NULL;
    return s;
}
