/*
 * batches.c - PUT, POST and GET of /api/v1/batches.
 *
 * An upload's way, each step with its thread:
 *
 *   handler (loop)      options checked
 *   fingerprint (pool)  hash of the body as sent
 *   fingerprinted       known? 200 at once, nothing is parsed again
 *   ingest (pool)       parsed, judged, packs in tmp/
 *   insert (db)         row, then the packs renamed into batches/, then the commit: equal uploads
 *                       meet here one after the other, and the second finds the name taken
 *   inserted (loop)     201; or, the name being taken, 200 for the same content and 409 for another
 *
 * Both steps on the pool wait for their turn (work.h), and end without a batch when the daemon stops.
 *
 * A name is the identity of a batch; an upload without one is named by its content.
 */
#include "server/api/batches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/app.h"
#include "server/decode/ingest.h"
#include "server/decode/multipart.h"
#include "server/http/http.h"
#include "server/jobs/forecast.h"
#include "server/log.h"
#include "server/store/batches.h"
#include "server/store/db.h"
#include "server/work.h"

enum { MAX_NAME = 100 };

/* ---- the batch as JSON ---- */

static json_t *classes_json(const struct batch *b)
{
    json_t *list = json_array();
    for (int i = 0; i < b->class_count; i++) {
        const struct batch_class *c = &b->classes[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "name", c->label, "train_images",
                                              (json_int_t)c->train_count, "test_images",
                                              (json_int_t)c->test_count));
    }
    return list;
}

static void warn(json_t *list, const char *code, const char *detail)
{
    json_array_append_new(list, json_pack("{s:s, s:s}", "code", code, "detail", detail));
}

/* What the sender should know before training on it; a test batch has nothing to be trained on. */
static json_t *warnings_json(const struct batch *b)
{
    json_t *list = json_array();
    if (b->train_count == 0)
        return list;
    const struct batch_class *least = &b->classes[0], *most = &b->classes[0];
    int few = 0;
    for (int i = 0; i < b->class_count; i++) {
        const struct batch_class *c = &b->classes[i];
        few += c->train_count < FEW_IMAGES;
        if (c->train_count < least->train_count)
            least = c;
        if (c->train_count > most->train_count)
            most = c;
    }
    char detail[512];
    if (few > 0) {
        snprintf(
            detail, sizeof detail,
            "%d of %d classes have fewer than %d training images; the smallest, \"%s\", has %lld",
            few, b->class_count, FEW_IMAGES, least->label, (long long)least->train_count);
        warn(list, "few_images", detail);
    }
    if (most->train_count >= IMBALANCE * least->train_count) {
        snprintf(detail, sizeof detail,
                 "\"%s\" has %lld training images and \"%s\" only %lld: the smaller class will be "
                 "recognised less often",
                 most->label, (long long)most->train_count, least->label,
                 (long long)least->train_count);
        warn(list, "imbalance", detail);
    }
    return list;
}

json_t *batch_json(const struct batch *b)
{
    json_t *verdicts = b->verdicts ? json_loads(b->verdicts, 0, NULL) : json_array();
    return json_pack("{s:s, s:s, s:o, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}",
                     "name", b->name,
                     "state", b->state,
                     "created", format_time(b->created_ms),
                     "hash", b->hash,
                     "classes", classes_json(b),
                     "train_images", (json_int_t)b->train_count,
                     "test_images", (json_int_t)b->test_count,
                     "train_bytes", (json_int_t)b->train_bytes,
                     "test_bytes", (json_int_t)b->test_bytes,
                     "accepted", (json_int_t)(b->train_count + b->test_count),
                     "rejected", (json_int_t)b->rejected,
                     "duplicates", (json_int_t)b->duplicates,
                     "verdicts", verdicts,
                     "warnings", warnings_json(b),
                     "consumed_version", format_id(b->consumed_version));
}

static void reply_batch(struct request *req, int status, const struct batch *b)
{
    char location[64 + BATCH_NAME_BYTES];
    snprintf(location, sizeof location, "/api/v1/batches/%s", b->name);
    if (status == 201)
        reply_header(req, "Location", location);
    reply_json(req, status, batch_json(b));
}

/* ---- uploads ---- */

struct upload {
    struct request *req;
    struct app *app;
    struct ingest_request request; /* its strings are the HTTP request's */
    bool dry_run;                  /* judge, and keep nothing */
    char fingerprint[HASH_HEX_BYTES];
    int err; /* of the step that ran last; then `error` */
    struct ingest_error error;
    struct ingest_result result;
};

static void upload_free(struct upload *u)
{
    ingest_release(&u->result);
    free(u);
}

static void reply_error(struct request *req, const struct ingest_error *error)
{
    reply_problem(req, error->status, error->code, "%s", error->detail);
}

static void reply_no_memory(struct request *req)
{
    reply_problem(req, 503, "no_memory", "memory ran out; try again later");
}

void reply_batch_error(struct request *req, int err)
{
    if (err == ERR_NOMEM)
        reply_no_memory(req);
    else if (err == ERR_NOSPACE)
        reply_problem(req, 507, "disk_full",
                      "the disk of the data directory is full; free some space and "
                      "try again");
    else
        reply_problem(req, 500, "io_error",
                      "the database could not be used: %s; the daemon's log tells more",
                      err_str(err));
}

static int insert(struct db_txn *txn, void *ctx)
{
    struct upload *u = ctx;
    int err = batches_insert(txn, &u->result.batch);
    return err != 0 ? err : ingest_publish(&u->result, u->app->config.data_dir);
}

/* The name is taken: by the same content? */
static void reply_existing(struct upload *u)
{
    struct batch existing;
    int err = batches_get(u->app->db, u->result.batch.name, &existing);
    if (err != 0) {
        reply_batch_error(u->req, err);
        return;
    }
    if (strcmp(existing.hash, u->result.batch.hash) == 0)
        reply_batch(u->req, 200, &existing);
    else
        reply_problem(
            u->req, 409, "batch_exists",
            "a batch named \"%s\" exists already and holds other images; choose another name",
            existing.name);
    batch_release(&existing);
}

static void inserted(void *ctx, int status)
{
    struct upload *u = ctx;
    if (status == 0) {
        const struct batch *b = &u->result.batch;
        log_info("batch %s: %lld training and %lld test images, %lld rejected, %lld duplicates",
                 b->name, (long long)b->train_count, (long long)b->test_count,
                 (long long)b->rejected, (long long)b->duplicates);
        reply_batch(u->req, 201, b);
    } else if (status == ERR_INVALID) {
        reply_existing(u);
    } else {
        reply_batch_error(u->req, status);
    }
    upload_free(u);
}

static void run_ingest(void *ctx)
{
    struct upload *u = ctx;
    u->err = ingest(&u->request, &u->result, &u->error);
    if (u->err == 0)
        memcpy(u->result.batch.request_hash, u->fingerprint, sizeof u->fingerprint);
}

static void ingested(void *ctx)
{
    struct upload *u = ctx;
    if (u->err == 0 && u->dry_run) {
        snprintf(u->result.batch.state, sizeof u->result.batch.state, "not_stored");
        reply_batch(u->req, 200, &u->result.batch);
        upload_free(u); /* with the packs */
        return;
    }
    if (u->err == 0 && db_write(u->app->db, insert, inserted, u) == 0)
        return;
    if (u->err == 0)
        reply_no_memory(u->req);
    else
        reply_error(u->req, &u->error);
    upload_free(u);
}

static void run_fingerprint(void *ctx)
{
    struct upload *u = ctx;
    u->err = ingest_fingerprint(&u->request, u->fingerprint, &u->error);
}

/* Whether this very upload made a batch before, under this name if it has one. */
static int find_known(struct upload *u, struct batch *out)
{
    if (!u->request.name)
        return batches_find_request(u->app->db, u->fingerprint, out);
    int err = batches_get(u->app->db, u->request.name, out);
    if (err == 0 && strcmp(out->request_hash, u->fingerprint) != 0) {
        batch_release(out);
        return ERR_MISSING;
    }
    return err;
}

static void fingerprinted(void *ctx)
{
    struct upload *u = ctx;
    struct batch known;
    int err = u->err;
    if (err != 0) {
        reply_error(u->req, &u->error);
    } else if ((err = find_known(u, &known)) == 0) {
        reply_batch(u->req, 200, &known);
        batch_release(&known);
    } else if (err != ERR_MISSING) {
        reply_batch_error(u->req, err);
    } else if (work_run_upload(u->app->loop, run_ingest, ingested, u) == 0) {
        return;
    } else {
        reply_no_memory(u->req);
    }
    upload_free(u);
}

static bool name_valid(const char *name)
{
    size_t bytes = strspn(name,
                          "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return bytes >= 1 && bytes <= MAX_NAME && name[bytes] == '\0';
}

/* ?format=, for bodies that are no form. Without it they are known by their contents: curl -T sends
 * no Content-Type, others all sorts of them. Only that of an image is heeded, so that one without
 * its first bytes is refused as an image, not as an archive. */
static bool read_format(struct request *req, struct ingest_request *r)
{
    static const struct {
        const char *name;
        enum ingest_format format;
    } formats[] = {
        {"tar", INGEST_TAR}, {"cifar10", INGEST_CIFAR10}, {"cifar100", INGEST_CIFAR100}};
    const char *format = request_query(req, "format");
    bool form = multipart_accepts(r->content_type);
    bool image = r->content_type && strncasecmp(r->content_type, "image/", 6) == 0;
    r->format = form ? INGEST_MULTIPART : image ? INGEST_IMAGE : INGEST_SINGLE;
    if (!format)
        return true;
    for (size_t i = 0; !form && i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(format, formats[i].name) == 0) {
            r->format = formats[i].format;
            return true;
        }
    }
    reply_problem(req, 400, "bad_query",
                  form ? "format is for a body that is no form: leave it out here"
                       : "format is tar, cifar10 or cifar100; without it the body tells");
    return false;
}

/* Reads ?split= and ?holdout=; replies and returns false when one is bad. */
static bool read_options(struct request *req, struct ingest_request *r)
{
    const char *split = request_query(req, "split"), *holdout = request_query(req, "holdout");
    if (split && strcmp(split, "train") != 0 && strcmp(split, "test") != 0) {
        reply_problem(req, 400, "bad_query", "split is train or test");
        return false;
    }
    r->test_split = split && strcmp(split, "test") == 0;
    if (holdout) {
        char *end;
        r->holdout = strtod(holdout, &end);
        if (end == holdout || *end != '\0' || !(r->holdout >= 0 && r->holdout <= 0.9)) {
            reply_problem(req, 400, "bad_query", "holdout is a share from 0 to 0.9, like 0.1");
            return false;
        }
    }
    if (r->test_split && r->holdout > 0) {
        reply_problem(req, 400, "bad_query",
                      "holdout puts test images aside; with split=test all are");
        return false;
    }
    r->classes = request_query(req, "classes");
    r->names = request_query(req, "names");
    r->label = request_query(req, "label");
    return read_format(req, r);
}

static void upload_start(struct request *req, const char *name)
{
    struct app *app = request_app(req);
    struct ingest_request r = {
        .content_type = request_header(req, "Content-Type"),
        .data_dir = app->config.data_dir,
        .name = name,
        .max_image_bytes = app->config.max_image_bytes,
        .min_free_bytes = app->config.min_free_bytes,
        .stop = &app->stopping,
    };
    if (name && !name_valid(name)) {
        reply_problem(req, 400, "bad_name",
                      "a batch's name is 1 to %d letters, digits, dots, dashes and underscores",
                      MAX_NAME);
        return;
    }
    bool dry_run;
    if (!format_dry_run(req, &dry_run))
        return;
    if (!read_options(req, &r))
        return;
    r.spool_path = request_spool(req, &r.spool_bytes);
    struct upload *u = calloc(1, sizeof *u);
    if (u)
        *u = (struct upload){.req = req, .app = app, .request = r, .dry_run = dry_run};
    int err = !u ? ERR_NOMEM
              : dry_run ? work_run_upload(app->loop, run_ingest, ingested, u)
                        : work_run_upload(app->loop, run_fingerprint, fingerprinted, u);
    if (err) {
        reply_no_memory(req);
        free(u);
    }
}

void api_batches_put(struct request *req)
{
    upload_start(req, request_param(req, "name"));
}

void api_batches_post(struct request *req)
{
    upload_start(req, request_query(req, "name"));
}

/* ---- reading ---- */

void reply_batch_missing(struct request *req)
{
    reply_problem(req, 404, "batch_not_found",
                  "there is no batch of this name; GET /api/v1/batches lists them");
}

void api_batches_get(struct request *req)
{
    const char *name = request_param(req, "name");
    struct batch b;
    int err = batches_get(request_app(req)->db, name, &b);
    if (err == ERR_MISSING) {
        reply_batch_missing(req);
    } else if (err != 0) {
        reply_batch_error(req, err);
    } else {
        reply_batch(req, 200, &b);
        batch_release(&b);
    }
}

void api_batches_list(struct request *req)
{
    int64_t before_id;
    int limit;
    if (!format_page(req, &before_id, &limit))
        return;
    struct batch *batches;
    int count;
    int err = batches_list(request_app(req)->db, before_id, limit + 1, &batches, &count);
    if (err != 0) {
        reply_batch_error(req, err);
        return;
    }
    json_t *next = count > limit ? format_token(req, batches[limit - 1].id) : json_null();
    json_t *list = json_array();
    for (int i = 0; i < count && i < limit; i++)
        json_array_append_new(list, batch_json(&batches[i]));
    batches_release(batches, count);
    reply_json(req, 200, json_pack("{s:o, s:o}", "batches", list, "next_page_token", next));
}
