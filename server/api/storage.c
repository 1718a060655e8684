/*
 * storage.c - GET /api/v1/storage: what is kept, in bytes, and what the disk has left.
 */
#include <sys/statvfs.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/jobs/data.h"
#include "server/jobs/predictor.h"
#include "server/jobs/serving.h"
#include "server/store/pack.h"
#include "server/store/totals.h"

static json_t *total_json(struct total total)
{
    return json_pack("{s:I, s:I}", "count", (json_int_t)total.count, "bytes",
                     (json_int_t)total.bytes);
}

/* Class means of the features, inside the model that serves. */
static struct total prototypes(struct app *app, const struct totals *totals)
{
    struct serving *s = predictor_active(app->predictor);
    if (!s)
        return (struct total){0};
    int64_t bytes = totals->classes * (int64_t)(serving_feature_count(s) * sizeof(float));
    serving_release(s);
    return (struct total){totals->classes, bytes};
}

/* The file; none that can be read counts as none. */
static struct total exemplars(const char *data_dir)
{
    struct pack *pack;
    int64_t version;
    if (data_exemplars_open(data_dir, &pack, &version))
        return (struct total){0};
    struct total total = {pack_image_count(pack), (int64_t)pack_bytes(pack)};
    pack_close(pack);
    return total;
}

/* null where the file system does not say. */
static json_t *disk_json(const struct config *config)
{
    struct statvfs fs;
    if (statvfs(config->data_dir, &fs) != 0)
        return json_null();
    return json_pack("{s:I, s:I, s:I}", "free_bytes", (json_int_t)fs.f_bavail * fs.f_frsize,
                     "total_bytes", (json_int_t)fs.f_blocks * fs.f_frsize, "reserve_bytes",
                     (json_int_t)config->min_free_bytes);
}

void api_storage_get(struct request *req)
{
    struct app *app = request_app(req);
    struct totals totals;
    int err = totals_read(db_reader(app->db), &totals);
    if (err) {
        reply_problem(req, 500, "internal_error", "The store cannot be read: %s. See the log.",
                      err_str(err));
        return;
    }
    reply_json(req, 200,
               json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "disk", disk_json(&app->config),
                         "test_images", total_json(totals.test_images), "training_images",
                         total_json(totals.training_images), "exemplars",
                         total_json(exemplars(app->config.data_dir)), "snapshots",
                         total_json(totals.snapshots), "models", total_json(totals.models),
                         "prototypes", total_json(prototypes(app, &totals)), "database_bytes",
                         (json_int_t)totals.database_bytes));
}
