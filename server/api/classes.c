/*
 * classes.c - /api/v1/classes: what is known; renaming a class and retiring one.
 *
 *   handler (loop)    the class, the active version's names as they are to be
 *   prepare (pool)    that version is loaded with them; packs without the retired class's test
 *                     images are written under new names
 *   write (db)        one transaction: checks again, rows. No job may be open: one has read the
 *                     names and will write them. One posted after it stays queued until the end
 *   changed (loop)    predictions swap to what was loaded; older versions load anew
 *   erase (pool)      of a retired class: prototypes and exemplars in files
 *   settle (db)       packs that no row names any longer go; the rows say that all is erased
 *   200 (loop)        queued jobs start
 *
 * A version that is loaded during `erase` may be found half rewritten: 503 (api/predict.h). One change
 * at a time. What a crash after the transaction leaves, or a stop, is done at the next start
 * (jobs/retire.h).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/app.h"
#include "server/decode/ingest.h"
#include "server/http/etag.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/jobs/options.h"
#include "server/jobs/predictor.h"
#include "server/jobs/queue.h"
#include "server/jobs/retire.h"
#include "server/log.h"
#include "server/store/jobs.h"
#include "server/store/versions.h"
#include "server/work.h"

enum { PATH_BYTES = 4400 };

/* ---- the class object ---- */

static json_t *class_json(const struct class_row *c)
{
    return json_pack("{s:I, s:i, s:s, s:I, s:i, s:I}", "id", (json_int_t)c->id, "index",
                     c->position, "name", c->name, "since_version", (json_int_t)c->since_version,
                     "step", c->step, "test_images", (json_int_t)c->test_images);
}

static void reply_error(struct request *req, int err)
{
    if (err == ERR_MISSING)
        reply_problem(req, 404, "class_not_found",
                      "The active version knows no class '%.64s'. GET /api/v1/classes lists them.",
                      request_param(req, "class"));
    else if (err == ERR_NOMEM)
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    else
        reply_store_error(req, "The classes cannot be read or changed", err);
}

/* ---- reading ---- */

static void reply_class(struct request *req, const char *name)
{
    struct class_row c;
    int err = classes_find(db_reader(request_app(req)->db), name, &c);
    if (err)
        reply_error(req, err);
    else
        reply_json(req, 200, class_json(&c));
}

void api_classes_get(struct request *req)
{
    reply_class(req, request_param(req, "class"));
}

void api_classes_list(struct request *req)
{
    struct class_row *classes;
    int64_t shown; /* on the pages before */
    int count, limit;
    if (!format_page(req, &shown, &limit))
        return;
    int err = classes_of(db_reader(request_app(req)->db), 0, &classes, &count);
    if (err) {
        reply_error(req, err);
        return;
    }
    json_t *list = json_array();
    int64_t end = shown + limit;
    for (int i = 0; i < count; i++)
        if (classes[i].position >= shown && classes[i].position < end)
            json_array_append_new(list, class_json(&classes[i]));
    json_t *next = end < classes_live(classes, count) ? format_token(req, end) : json_null();
    free(classes);
    reply_json(req, 200, json_pack("{s:o, s:o}", "classes", list, "next_page_token", next));
}

/* ---- changing ---- */

struct change {
    struct request *req;
    struct app *app;
    bool begun;                 /* app->class_changes is ours */
    char name[LABEL_BYTES];
    char new_name[LABEL_BYTES]; /* "": it is retired */
    const char *if_match;       /* the request's */
    bool stale;
    struct refusal why;         /* code "" unless refused */
    struct version version;     /* the active one */
    struct class_row *classes;  /* of it, owned */
    int class_count;
    int err;                    /* of the step on the pool */
    struct serving *serving;
    struct retire_pack *packs;  /* owned */
    int pack_count, packs_written;
    struct retire_erase erase;
};

static bool retires(const struct change *c)
{
    return c->new_name[0] == '\0';
}

static void change_free(struct change *c)
{
    if (c->begun) {
        c->app->class_changes = false;
        c->app->classes_changed_ns = uv_hrtime();
        queue_kick(c->app->queue); /* jobs that came meanwhile waited */
    }
    for (int i = 0; i < c->pack_count; i++)
        batch_release(&c->packs[i].batch);
    free(c->packs);
    free(c->classes);
    serving_release(c->serving);
    retire_erase_release(&c->erase);
    free(c);
}

static void reply_refused(struct change *c, int err)
{
    if (c->stale)
        reply_stale(c->req);
    else if (c->why.code[0])
        reply_problem(c->req, c->why.status, c->why.code, "%s", c->why.detail);
    else
        reply_error(c->req, err);
}

/* ---- rules: asked on the loop, and again in the transaction ---- */

static int check_jobs(struct db_txn *t, struct change *c)
{
    struct job *open;
    int count;
    int err = jobs_list_open(t, &open, &count);
    if (err)
        return err;
    int64_t first = count ? open[0].id : 0;
    jobs_release(open, count);
    return first ? refuse(&c->why, 409, "jobs_open",
                          "Job %" PRId64 " is queued or running. Wait for it, or cancel it.", first)
                 : 0;
}

static int check_new_name(struct db_txn *t, struct change *c)
{
    int64_t version;
    char batch[BATCH_NAME_BYTES];
    if (strcmp(c->name, c->new_name) == 0)
        return 0;
    int err = classes_name_owner(t, c->new_name, &version, batch);
    if (err)
        return err == ERR_MISSING ? 0 : err;
    if (batch[0])
        return refuse(&c->why, 409, "name_taken",
                      "Batch '%s' has images of a class '%s'. Delete it, or choose another name.",
                      batch, c->new_name);
    return refuse(&c->why, 409, "name_taken",
                  "Version %" PRId64 " knows a class '%s'. Choose another name.", version,
                  c->new_name);
}

static int check_not_last(struct db_txn *t, struct change *c)
{
    struct class_row *classes;
    int count;
    int err = classes_of(t, 0, &classes, &count);
    if (err)
        return err;
    int live = classes_live(classes, count);
    free(classes);
    return live > 1 ? 0
                    : refuse(&c->why, 409, "last_class",
                             "'%s' is the only class left, and a model that knows none cannot "
                             "serve. Teach it another one first, or start a daemon on an empty "
                             "data directory.",
                             c->name);
}

static int check(struct db_txn *t, struct change *c)
{
    struct class_row row;
    int err = classes_find(t, c->name, &row);
    if (err)
        return err;
    if (c->if_match && !etag_allows(c->if_match, class_json(&row))) {
        c->stale = true;
        return ERR_INVALID;
    }
    err = check_jobs(t, c);
    if (!err)
        err = retires(c) ? check_not_last(t, c) : check_new_name(t, c);
    return err;
}

/* ---- on the pool: before ---- */

static int load_renamed(struct change *c)
{
    const char **names = calloc((size_t)c->class_count + 1, sizeof *names);
    if (!names)
        return ERR_NOMEM;
    for (int i = 0; i < c->class_count; i++) {
        names[i] = class_live_name(&c->classes[i]);
        if (names[i] && strcmp(names[i], c->name) == 0)
            names[i] = retires(c) ? NULL : c->new_name;
    }
    int err = serving_load(&c->serving, c->app->config.data_dir, c->version.version, names,
                           c->class_count, c->app->isa);
    free(names);
    return err;
}

static void run_prepare(void *ctx)
{
    struct change *c = ctx;
    c->err = load_renamed(c);
    if (c->err) {
        refuse(&c->why, 500, "model_unreadable",
               "Model version %" PRId64 " cannot be read (%s), so nothing was changed. Restore it "
               "from a backup.",
               c->version.version, err_str(c->err));
        return;
    }
    for (; c->packs_written < c->pack_count && !c->err; c->packs_written += !c->err) {
        struct retire_pack *p = &c->packs[c->packs_written];
        c->err = retire_pack_write(c->app->config.data_dir, c->name, &c->app->stopping, p);
        if (c->err && c->err != ERR_NOSPACE && c->err != ERR_NOMEM && c->err != ERR_STOPPED)
            refuse(&c->why, 500, "corrupt_batch",
                   "The test images of batch '%s' cannot be written anew without this class (%s). "
                   "Delete the batch, then retire the class again.",
                   p->batch.name, err_str(c->err));
    }
}

/* ---- on the db thread ---- */

/* The batches must be those whose packs were written. */
static int drop_test_images(struct db_txn *t, struct change *c)
{
    struct batch *now;
    int count;
    int err = batches_load_measuring(t, c->name, &now, &count);
    if (err)
        return err;
    batches_release(now, count);
    for (int i = 0; i < c->pack_count && !err; i++) {
        struct retire_pack *p = &c->packs[i];
        err = batches_drop_test(t, p->batch.id, p->batch.hash, p->hash, c->name, p->test_bytes);
    }
    if (count != c->pack_count || err == ERR_MISSING)
        err = refuse(&c->why, 409, "changed_meanwhile",
                     "A batch with test images of this class came or went just now. Try again.");
    return err;
}

static int write_change(struct db_txn *t, void *ctx)
{
    struct change *c = ctx;
    int err = check(t, c);
    if (err || strcmp(c->name, c->new_name) == 0)
        return err;
    if (!retires(c))
        return classes_rename(t, c->name, c->new_name);
    err = drop_test_images(t, c);
    return err ? err : classes_retire(t, c->name);
}

/* Packs go here, as where batches are deleted, since uploads publish theirs on this thread. */
static int write_settle(struct db_txn *t, void *ctx)
{
    struct change *c = ctx;
    char path[PATH_BYTES];
    for (int i = 0; i < c->pack_count; i++) {
        const struct batch *b = &c->packs[i].batch;
        data_path(path, sizeof path, c->app->config.data_dir, "batches", b->hash, ".test");
        if (!batches_has_hash(t, b->hash) && unlink(path) != 0)
            log_warning("old test images of batch '%s' could not be removed now (%m); the next "
                        "start tries again", b->name);
    }
    return c->err ? 0 : classes_set_erased(t);
}

/* ---- on the loop: after ---- */

static json_t *versions_json(const struct retire_erase *e)
{
    json_t *list = json_array();
    for (int i = 0; i < e->file_count; i++)
        if (i == 0 || e->files[i].version != e->files[i - 1].version)
            json_array_append_new(list, json_integer(e->files[i].version));
    return list;
}

static json_t *waiting_json(struct change *c)
{
    struct batch *batches;
    int count;
    json_t *list = json_array();
    if (batches_load_waiting(db_reader(c->app->db), c->name, &batches, &count))
        return list;
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_string(batches[i].name));
    batches_release(batches, count);
    return list;
}

static json_t *retired_json(struct change *c)
{
    int64_t test_images = 0;
    for (int i = 0; i < c->pack_count; i++)
        test_images += c->packs[i].images;
    return json_pack(
        "{s:s, s:I, s:I, s:b, s:o, s:o, s:s}", "name", c->name, "test_images_deleted",
        (json_int_t)test_images, "exemplars_deleted", (json_int_t)c->erase.exemplars, "erased",
        c->err == 0, "learned_by_versions", versions_json(&c->erase), "waiting_batches",
        waiting_json(c), "remains",
        "No version predicts it any more; its prototype, test images, exemplars and measurements "
        "are deleted. What was learned from it cannot be taken out of the weights: those of the "
        "versions named here remain, and their snapshots, which teach later steps what they know "
        "of it. So do job logs and curves, files exported before, and images in batches that wait "
        "to be learned, until these are deleted. Its name is free again.");
}

static void settled(void *ctx, int status)
{
    struct change *c = ctx;
    if (status && !c->err)
        c->err = status;
    if (c->err)
        log_warning("class '%s' is not erased from all files yet: %s; the next start goes on",
                    c->name, err_str(c->err));
    log_info("class '%s' was retired", c->name);
    reply_json(c->req, 200, retired_json(c));
    change_free(c);
}

static void run_erase(void *ctx)
{
    struct change *c = ctx;
    c->err = retire_erase_run(c->app->config.data_dir, &c->app->stopping, &c->erase);
}

static void erased(void *ctx)
{
    struct change *c = ctx;
    if (db_write(c->app->db, write_settle, settled, c) != 0)
        settled(c, ERR_NOMEM);
}

static void undo(struct change *c)
{
    for (int i = 0; i < c->packs_written; i++)
        retire_pack_undo(c->app->config.data_dir, &c->packs[i]);
}

static void changed(void *ctx, int status)
{
    struct change *c = ctx;
    if (status) {
        undo(c);
        reply_refused(c, status);
        change_free(c);
        return;
    }
    predictor_swap_committed(c->app->predictor, c->serving);
    c->serving = NULL;
    predictor_classes_changed(c->app->predictor);
    if (!retires(c)) {
        log_info("class '%s' is called '%s' now", c->name, c->new_name);
        reply_class(c->req, c->new_name);
        change_free(c);
        return;
    }
    c->err = retire_erase_load(db_reader(c->app->db), &c->erase);
    if (!c->err)
        c->err = work_run(c->app->loop, run_erase, erased, c);
    if (c->err)
        erased(c);
}

static void prepared(void *ctx)
{
    struct change *c = ctx;
    int err = c->err;
    if (!err)
        err = db_write(c->app->db, write_change, changed, c);
    if (!err)
        return;
    undo(c);
    reply_refused(c, err);
    change_free(c);
}

/* ---- the requests ---- */

static int load_packs(struct change *c)
{
    struct batch *batches;
    int count;
    int err = batches_load_measuring(db_reader(c->app->db), c->name, &batches, &count);
    if (err)
        return err;
    c->packs = calloc((size_t)count + 1, sizeof *c->packs);
    if (!c->packs) {
        batches_release(batches, count);
        return ERR_NOMEM;
    }
    for (int i = 0; i < count; i++)
        c->packs[i].batch = batches[i]; /* with what it owns */
    c->pack_count = count;
    free(batches);
    return 0;
}

/* Takes `c`, whose names are set. */
static void start_change(struct change *c)
{
    struct db_txn *t = db_reader(c->app->db);
    int64_t job = queue_running(c->app->queue); /* it may have ended in the database alone */
    int err = check(t, c);
    if (!err && job)
        err = refuse(&c->why, 409, "jobs_open", "Job %" PRId64 " is just ending. Try again.", job);
    if (!err && c->app->class_changes) /* both would write the same files */
        err = refuse(&c->why, 409, "changed_meanwhile",
                     "Another class is being renamed or retired just now. Try again.");
    if (!err)
        err = versions_active(t, &c->version);
    if (!err)
        err = classes_of(t, 0, &c->classes, &c->class_count);
    if (!err && retires(c))
        err = load_packs(c);
    if (!err)
        err = work_run(c->app->loop, run_prepare, prepared, c);
    if (err) {
        reply_refused(c, err);
        change_free(c);
    } else {
        c->begun = c->app->class_changes = true;
    }
}

static struct change *change_new(struct request *req)
{
    struct change *c = calloc(1, sizeof *c);
    if (!c) {
        reply_error(req, ERR_NOMEM);
        return NULL;
    }
    c->req = req;
    c->app = request_app(req);
    c->if_match = request_header(req, "If-Match");
    snprintf(c->name, sizeof c->name, "%s", request_param(req, "class"));
    return c;
}

/* {"name": "..."} and nothing else. */
static int parse_name(struct change *c)
{
    size_t size;
    json_error_t error;
    const char *text = request_body(c->req, &size);
    json_t *body = json_loadb(text ? text : "", size, JSON_REJECT_DUPLICATES, &error);
    if (!body)
        return refuse(&c->why, 400, "bad_json", "The body is no JSON: %s (line %d, column %d).",
                      error.text, error.line, error.column);
    const char *name = json_string_value(json_object_get(body, "name"));
    bool good = name && json_object_size(body) == 1 && label_valid(name) &&
                strlen(name) < sizeof c->new_name;
    if (good)
        snprintf(c->new_name, sizeof c->new_name, "%s", name);
    json_decref(body);
    return good ? 0
                : refuse(&c->why, 422, "bad_field",
                         "The body must be {\"name\": \"...\"} with a name of 1 to 64 bytes, "
                         "without slashes and control characters, not beginning with a dot.");
}

void api_classes_rename(struct request *req)
{
    struct change *c = change_new(req);
    if (!c)
        return;
    int err = parse_name(c);
    if (!err) {
        start_change(c);
        return;
    }
    reply_refused(c, err);
    change_free(c);
}

void api_classes_retire(struct request *req)
{
    struct change *c = change_new(req);
    if (c)
        start_change(c);
}
