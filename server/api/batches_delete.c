/*
 * batches_delete.c - DELETE /api/v1/batches/{name}: a batch's images and its row.
 *
 *   handler (loop)   If-Match is the request's
 *   remove (db)      the row, unless a job that has not ended uses it
 *   unlink (db)      the files. On that thread, since the same content uploaded again under the same
 *                    name has the same files, and comes to them there too
 *   done (loop)      200
 *
 * What a crash leaves of the files is swept at the next start.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/batches.h"
#include "server/app.h"
#include "server/http/etag.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/log.h"

enum { PATH_BYTES = 4400 };

struct deleting {
    struct request *req;
    struct app *app;
    char name[BATCH_NAME_BYTES];
    const char *if_match; /* the request's */
    bool stale;
    struct batch batch; /* as it was; its lists are freed */
    int64_t freed_bytes;
};

/* ---- on the db thread ---- */

static int write_delete(struct db_txn *t, void *ctx)
{
    struct deleting *d = ctx;
    int err = batches_load_named(t, d->name, &d->batch);
    if (err)
        return err;
    d->stale = d->if_match && !etag_allows(d->if_match, batch_json(&d->batch));
    batch_release(&d->batch);
    return d->stale ? ERR_INVALID : batches_delete(t, d->batch.id);
}

static void delete_file(struct deleting *d, const char *suffix)
{
    char path[PATH_BYTES];
    struct stat st;
    data_path(path, sizeof path, d->app->config.data_dir, "batches", d->batch.hash, suffix);
    if (stat(path, &st) != 0)
        return;
    if (unlink(path) == 0)
        d->freed_bytes += st.st_size;
    else
        log_warning("%s of the deleted batch '%s' could not be removed now (%m); the next start "
                    "tries again", suffix, d->name);
}

static int write_unlink(struct db_txn *t, void *ctx)
{
    struct deleting *d = ctx;
    if (batches_has_hash(t, d->batch.hash))
        return 0; /* uploaded again meanwhile */
    delete_file(d, ".train");
    delete_file(d, ".test");
    return 0;
}

/* ---- on the loop ---- */

static json_t *deleted_json(const struct deleting *d)
{
    const struct batch *b = &d->batch;
    bool learned = b->consumed_version != 0;
    return json_pack("{s:s, s:I, s:I, s:I, s:s}", "name", b->name, "freed_bytes",
                     (json_int_t)d->freed_bytes, "training_images_deleted",
                     (json_int_t)(learned ? 0 : b->train_count), "test_images_deleted",
                     (json_int_t)b->test_count, "remains",
                     learned ? "The classes it taught stay known, and accuracy measured before "
                               "stays as history; later steps can no longer be measured on its "
                               "test images."
                             : "Nothing of its images. Jobs that named it keep the name.");
}

static void unlinked(void *ctx, int status)
{
    struct deleting *d = ctx;
    if (status)
        log_warning("files of the deleted batch '%s' stay until the next start: %s", d->name,
                    err_str(status));
    log_info("batch %s was deleted", d->name);
    reply_json(d->req, 200, deleted_json(d));
    free(d);
}

static void deleted(void *ctx, int status)
{
    struct deleting *d = ctx;
    if (status == 0) {
        if (db_write(d->app->db, write_unlink, unlinked, d) != 0)
            unlinked(d, ERR_NOMEM);
        return;
    }
    if (status == ERR_MISSING)
        reply_batch_missing(d->req);
    else if (d->stale)
        reply_stale(d->req);
    else if (status == ERR_INVALID)
        reply_problem(d->req, 409, "batch_in_use",
                      "Batch '%s' belongs to a job that has not ended. Wait for it, or cancel it.",
                      d->name);
    else
        reply_batch_error(d->req, status);
    free(d);
}

void api_batches_delete(struct request *req)
{
    struct deleting *d = calloc(1, sizeof *d);
    if (!d) {
        reply_batch_error(req, ERR_NOMEM);
        return;
    }
    d->req = req;
    d->app = request_app(req);
    d->if_match = request_header(req, "If-Match");
    snprintf(d->name, sizeof d->name, "%s", request_param(req, "name"));
    int err = db_write(d->app->db, write_delete, deleted, d);
    if (err) {
        reply_batch_error(req, err);
        free(d);
    }
}
