/*
 * predict.c - POST /api/v1/predict: one image, or several, to their likeliest classes.
 *
 * The images lie in the body, which lives as long as the request owes its reply; the predictor's
 * threads decode and classify them, and the loop replies.
 */
#include "server/api/predict.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/app.h"
#include "server/decode/multipart.h"
#include "server/http/http.h"
#include "server/jobs/predictor.h"

_Static_assert(IMAGE_MAX_PIXELS == 25000000 && IMAGE_MAX_SIDE == 16384 && IMAGE_MAX_SCANS == 100,
               "image_refusal names these limits");

enum { TOP_DEFAULT = 5, TOP_MAX = 100 };

struct part {
    const void *data; /* borrowed from the request */
    size_t size_bytes;
    char file[256];
    enum image_verdict verdict;
    int row; /* of the results, where the verdict is IMAGE_OK */
};

struct predict {
    struct predictor_task task; /* first, so that a task is its predict */
    struct request *req;
    uint64_t started_ns;
    int64_t version; /* 0: the active one */
    int top;
    double threshold; /* NaN: not asked for */
    int part_count;
    struct part parts[PREDICTOR_BATCH];
};

/* ---- refusals ---- */

int image_refusal(enum image_verdict verdict, const char **detail)
{
    switch (verdict) {
    case IMAGE_OK:
        break;
    case IMAGE_UNKNOWN_FORMAT:
        *detail = "The image is neither JPEG nor PNG by its first bytes; send one of these.";
        return 415;
    case IMAGE_DAMAGED:
        *detail = "The image is truncated or corrupt; send it again whole.";
        return 422;
    case IMAGE_TOO_LARGE:
        *detail = "The image has more than 25 megapixels, 16,384 a side or 100 scans; send a "
                  "smaller one.";
        return 413;
    case IMAGE_EMPTY:
        *detail = "The image has no bytes; send a JPEG or PNG as the body.";
        return 400;
    case IMAGE_NO_MEMORY:
        *detail = "Out of memory while decoding; try again later.";
        return 503;
    }
    *detail = "";
    return 200;
}

static void refuse_image(struct request *req, enum image_verdict verdict)
{
    const char *detail;
    int status = image_refusal(verdict, &detail);
    reply_problem(req, status, verdict == IMAGE_EMPTY ? "empty_body" : image_verdict_code(verdict),
                  "%s", detail);
}

bool reply_classes_changing(struct request *req)
{
    const struct app *app = request_app(req);
    if (!app->class_changes && app->classes_changed_ns < request_began_ns(req))
        return false;
    reply_header(req, "Retry-After", "1");
    reply_problem(req, 503, "classes_changing",
                  "A class is just being retired, and the files of this version are between two "
                  "states. Try again in a second.");
    return true;
}

void reply_prediction_error(struct request *req, int err, int64_t version)
{
    if (err == ERR_NOSPACE) {
        reply_header(req, "Retry-After", "1");
        reply_problem(req, 429, "overloaded",
                      "%d requests for predictions are waiting already; try again in a second.",
                      PREDICTOR_QUEUE);
    } else if (err == ERR_NOMEM) {
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    } else if (err == ERR_MISSING && version == 0) {
        reply_problem(req, 503, "no_model",
                      "Nothing is learned yet: PUT a batch of images to /api/v1/batches/NAME, "
                      "then POST a job for it to /api/v1/jobs.");
    } else if (err == ERR_INVALID) {
        reply_problem(req, 409, "version_empty",
                      "All classes of model version %" PRId64 " are retired.", version);
    } else if (err == ERR_MISSING) {
        reply_problem(req, 404, "unknown_version",
                      "There is no model version %" PRId64 ". GET /api/v1/models lists them.",
                      version);
    } else if (!reply_classes_changing(req)) {
        reply_problem(req, 500, "model_unreadable",
                      "Model version %" PRId64 " cannot be read (%s). Restore models/%" PRId64
                      " or snapshots/%" PRId64 ", and those of the versions before it, of the data "
                      "directory from a backup.",
                      version, err_str(err), version, version);
    }
}

/* ---- on a pool thread ---- */

static int prepare(struct predictor_task *task)
{
    struct predict *p = (struct predict *)task;
    size_t floats = serving_image_floats(task->serving);
    float *x = predictor_task_room(task, p->part_count);
    if (!x)
        return ERR_NOMEM;
    for (int i = 0; i < p->part_count; i++) {
        struct part *part = &p->parts[i];
        struct image image;
        if (atomic_load(&request_app(p->req)->stopping))
            return ERR_STOPPED; /* it has its answer already */
        part->verdict = image_decode(&image, part->data, part->size_bytes);
        if (part->verdict != IMAGE_OK)
            continue;
        part->row = task->count++;
        int err = serving_fit(task->serving, &image, x + (size_t)part->row * floats);
        image_release(&image);
        if (err)
            return err;
    }
    return 0;
}

/* ---- the reply ---- */

static double rounded(double value, double unit)
{
    return isfinite(value) ? round(value / unit) * unit : 0;
}

/* Adds what was found out about row `row` to `answer`. */
static void add_answer(json_t *answer, const struct predict *p, int row)
{
    const struct predictor_task *t = &p->task;
    struct prediction top[TOP_MAX];
    size_t classes = (size_t)t->serving->class_count;
    int count = serving_top(t->serving, t->probabilities + (size_t)row * classes, p->top, top);
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s, s:i, s:f}", "class",
                                              t->serving->class_names[top[i].class_index], "index",
                                              top[i].class_index, "score",
                                              rounded(top[i].score, 1e-6)));
    json_object_set_new(answer, "predictions", list);
    if (!isnan(p->threshold))
        json_object_set_new(answer, "none_of_these", json_boolean(top[0].score < p->threshold));
    if (!t->features)
        return;
    json_t *features = json_array();
    size_t width = serving_feature_count(t->serving);
    for (size_t i = 0; i < width; i++)
        json_array_append_new(features, json_real(t->features[(size_t)row * width + i]));
    json_object_set_new(answer, "features", features);
}

/* A file name as sent; JSON takes UTF-8 only. */
static json_t *file_name(const char *file)
{
    json_t *name = json_string(file);
    return name ? name : json_string("");
}

static json_t *make_result(const struct predict *p, const struct part *part)
{
    const char *detail;
    json_t *result = json_pack("{s:o}", "file", file_name(part->file));
    if (part->verdict == IMAGE_OK) {
        add_answer(result, p, part->row);
    } else {
        image_refusal(part->verdict, &detail);
        json_object_set_new(result, "error",
                            json_pack("{s:s, s:s}", "code", image_verdict_code(part->verdict),
                                      "detail", detail));
    }
    return result;
}

static void reply_answer(const struct predict *p)
{
    double milliseconds = (double)(uv_hrtime() - p->started_ns) / 1e6;
    json_t *answer = json_pack("{s:I, s:f}", "model", (json_int_t)p->task.serving->version,
                               "milliseconds", rounded(milliseconds, 1e-3));
    if (p->part_count == 1) {
        add_answer(answer, p, 0);
    } else {
        json_t *results = json_array();
        for (int i = 0; i < p->part_count; i++)
            json_array_append_new(results, make_result(p, &p->parts[i]));
        json_object_set_new(answer, "results", results);
    }
    reply_json(p->req, 200, answer);
}

static void done(struct predictor_task *task)
{
    struct predict *p = (struct predict *)task;
    if (task->err && !task->serving)
        reply_prediction_error(p->req, task->err == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT,
                               p->version);
    else if (task->err)
        reply_prediction_error(p->req, ERR_NOMEM, p->version);
    else if (p->part_count == 1 && p->parts[0].verdict != IMAGE_OK)
        refuse_image(p->req, p->parts[0].verdict);
    else
        reply_answer(p);
    predictor_task_release(task);
    free(p);
}

/* ---- the request ---- */

/* A query parameter that is a number, or `standard` where it is absent. Replies and returns false
 * when it is none, or out of range. */
static bool read_number(struct request *req, const char *name, double standard, double lowest,
                        double highest, bool whole, double *out)
{
    const char *text = request_query(req, name);
    char *end = NULL;
    *out = standard;
    if (!text)
        return true;
    *out = strtod(text, &end);
    bool digits = *text && text[strspn(text, whole ? "0123456789" : "0123456789.")] == '\0';
    if (digits && *end == '\0' && *out >= lowest && *out <= highest)
        return true;
    reply_problem(req, 400, "bad_parameter", "`%s` must be a %snumber from %.15g to %.15g.", name,
                  whole ? "whole " : "", lowest, highest);
    return false;
}

static bool read_query(struct request *req, struct predict *p)
{
    double top, features, version;
    if (!read_number(req, "top", TOP_DEFAULT, 1, TOP_MAX, true, &top) ||
        !read_number(req, "threshold", NAN, 0, 1, false, &p->threshold) ||
        !read_number(req, "features", 0, 0, 1, true, &features) ||
        !read_number(req, "model", 0, 1, 1e15, true, &version))
        return false;
    p->top = (int)top;
    p->task.want_features = features != 0;
    p->version = (int64_t)version;
    return true;
}

/* The parts named `image` of a multipart body, or a reply and false. */
static bool find_parts(struct request *req, const char *content_type, const void *body,
                       size_t body_bytes, struct predict *p)
{
    struct multipart reader;
    struct multipart_part part;
    int found = 0, more = 1;
    int rc = multipart_init(&reader, content_type, span_of_memory(body, body_bytes));
    while (rc == 0 && (more = multipart_next(&reader, &part)) == 1) {
        if (strcmp(part.name, "image") != 0 || found++ >= PREDICTOR_BATCH)
            continue;
        struct part *to = &p->parts[p->part_count++];
        to->data = part.data;
        to->size_bytes = part.size_bytes;
        memcpy(to->file, part.filename, sizeof to->file);
    }
    if (rc != 0 || more < 0)
        reply_problem(req, 400, "bad_multipart", "The multipart/form-data body is malformed.");
    else if (found < 1 || found > PREDICTOR_BATCH)
        reply_problem(req, 400, "bad_multipart",
                      "A prediction takes 1 to %d parts named `image`; %d were sent.",
                      PREDICTOR_BATCH, found);
    return rc == 0 && more == 0 && found >= 1 && found <= PREDICTOR_BATCH;
}

/* Where the images lie in the body, or a reply and false. Only multipart is told by its
 * Content-Type: a raw image is known by its first bytes, whatever it was called. */
static bool read_images(struct request *req, struct predict *p)
{
    const char *content_type = request_header(req, "Content-Type");
    size_t body_bytes;
    const void *body = request_body(req, &body_bytes);
    if (body_bytes == 0) {
        refuse_image(req, IMAGE_EMPTY);
        return false;
    }
    if (multipart_accepts(content_type)) {
        if (!find_parts(req, content_type, body, body_bytes, p))
            return false;
    } else {
        p->part_count = 1;
        p->parts[0].data = body;
        p->parts[0].size_bytes = body_bytes;
    }
    uint64_t limit = request_app(req)->config.max_image_bytes;
    for (int i = 0; i < p->part_count; i++) {
        if (p->parts[i].size_bytes <= limit)
            continue;
        reply_name_limit(req, "image_bytes");
        reply_problem(req, 413, "body_too_large", "An image is over the limit of %ju bytes.",
                      (uintmax_t)limit);
        return false;
    }
    return true;
}

void api_predict(struct request *req)
{
    struct predict *p = calloc(1, sizeof *p);
    if (!p) {
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
        return;
    }
    p->req = req;
    p->started_ns = uv_hrtime();
    p->task.prepare = prepare;
    p->task.done = done;
    if (!read_query(req, p) || !read_images(req, p)) {
        free(p);
        return;
    }
    int err = predictor_submit(request_app(req)->predictor, &p->task, p->version);
    if (err) {
        reply_prediction_error(req, err, p->version);
        free(p);
    }
}
