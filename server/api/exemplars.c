/*
 * exemplars.c - /api/v1/exemplars: the images kept of classes that were learned; what there is, and away with it.
 *
 * They are a pack file a version, one of them in force (server/jobs/data.h); read and removed on the pool.
 */
#include "server/api/api.h"

#include <stdlib.h>

#include "core/err.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/store/classes.h"
#include "server/store/pack.h"
#include "server/store/versions.h"
#include "server/work.h"

struct visit {
    struct request *req;
    const char *data_dir;
    bool remove;
    struct rename *renames; /* owned */
    int rename_count;
    int64_t *served; /* owned; versions_served() */
    int served_count;
    int err;
    json_t *reply;
};

static json_t *class_counts(const struct visit *v, const struct pack *pack, int64_t version,
                            const int *counts)
{
    json_t *list = json_array();
    for (int i = 0; i < pack_label_count(pack); i++)
        json_array_append_new(list, json_pack("{s:s, s:i}", "name",
                                              renames_apply(v->renames, v->rename_count,
                                                            pack_label(pack, i), version),
                                              "images", counts[i]));
    return list;
}

static int make_reply(struct visit *v, json_int_t images, json_int_t bytes, json_t *classes,
                      const struct data_exemplars_total *others)
{
    v->reply = json_pack("{s:I, s:I, s:o, s:{s:I, s:I}}", "images", images, "bytes", bytes,
                         "classes", classes, "other_versions", "images",
                         (json_int_t)others->images, "bytes", (json_int_t)others->bytes);
    return v->reply ? 0 : ERR_NOMEM;
}

/* Images and bytes a class and in all; damaged images do not count. */
static int describe(struct visit *v, const struct pack *pack, int64_t version,
                    const struct data_exemplars_total *others)
{
    int *counts = calloc((size_t)pack_label_count(pack) + 1, sizeof *counts);
    json_int_t bytes = 0, images = 0;
    if (!counts)
        return ERR_NOMEM;
    for (int i = 0; i < pack_image_count(pack); i++) {
        struct pack_image image;
        if (pack_image(pack, i, &image))
            continue;
        counts[image.label]++;
        bytes += (json_int_t)image.size_bytes;
        images++;
    }
    int err = make_reply(v, images, bytes, class_counts(v, pack, version, counts), others);
    free(counts);
    return err;
}

static void work(void *ctx)
{
    struct visit *v = ctx;
    struct pack *pack = NULL;
    struct data_exemplars_total others = {0};
    int64_t version = 0;
    int opened = data_exemplars_open(v->data_dir, v->served, v->served_count, &pack, &version);
    v->err = data_exemplars_count(v->data_dir, opened == ERR_MISSING ? 0 : version, &others);
    if (!v->err && !opened)
        v->err = describe(v, pack, version, &others);
    else if (!v->err && (opened == ERR_MISSING || v->remove)) /* none, or none that can be counted */
        v->err = make_reply(v, 0, 0, json_array(), &others);
    else if (!v->err)
        v->err = opened;
    pack_close(pack);
    if (!v->err && v->remove)
        v->err = data_exemplars_remove(v->data_dir);
}

static void visit_free(struct visit *v)
{
    free(v->renames);
    free(v->served);
    free(v);
}

static void done(void *ctx)
{
    struct visit *v = ctx;
    if (v->err) {
        json_decref(v->reply);
        reply_problem(v->req, 500, "io_error",
                      "The kept images cannot be read or removed: %s. Check the disk.",
                      err_str(v->err));
    } else {
        reply_json(v->req, 200, v->reply);
    }
    visit_free(v);
}

static void start(struct request *req, bool remove)
{
    struct app *app = request_app(req);
    struct visit *v = calloc(1, sizeof *v);
    int err = ERR_NOMEM;
    if (v) {
        *v = (struct visit){.req = req, .data_dir = app->config.data_dir, .remove = remove};
        err = renames_list(db_reader(app->db), &v->renames, &v->rename_count);
        if (!err)
            err = versions_served(db_reader(app->db), &v->served, &v->served_count);
        if (!err)
            err = work_run(app->loop, work, done, v);
    }
    if (err) {
        if (v)
            visit_free(v);
        reply_problem(req, 503, "no_memory", "Memory ran out. Try again.");
    }
}

void api_exemplars_get(struct request *req)
{
    start(req, false);
}

void api_exemplars_delete(struct request *req)
{
    start(req, true);
}
