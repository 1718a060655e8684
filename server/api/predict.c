/*
 * predict.c - POST /api/v1/predict: one image to its likeliest classes.
 *
 * The loop takes hold of the serving model, a pool thread decodes and classifies, the loop replies. The job borrows
 * the body, which lives as long as the request owes its reply.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/api/api.h"
#include "server/app.h"
#include "server/decode/image.h"
#include "server/decode/multipart.h"
#include "server/http/http.h"
#include "server/jobs/predictor.h"
#include "server/work.h"

enum { TOP_DEFAULT = 5, TOP_MAX = 100 };

struct predict_job {
    struct request *req;
    struct serving *serving;
    const void *image; /* borrowed from the request */
    size_t image_bytes;
    int top;
    enum image_verdict verdict;
    int rc; /* of the classification */
    struct prediction predictions[TOP_MAX];
    int count;
    double milliseconds; /* decoding and classifying */
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void work(void *ctx)
{
    struct predict_job *job = ctx;
    struct image image;
    double start = now_ms();
    job->verdict = image_decode(&image, job->image, job->image_bytes);
    if (job->verdict != IMAGE_OK)
        return;
    job->rc = serving_classify(job->serving, &image, job->top, job->predictions, &job->count);
    image_release(&image);
    job->milliseconds = now_ms() - start;
}

static double rounded(double value, double unit)
{
    return isfinite(value) ? round(value / unit) * unit : 0;
}

static json_t *make_answer(const struct predict_job *job)
{
    json_t *list = json_array();
    for (int i = 0; i < job->count; i++) {
        const struct prediction *p = &job->predictions[i];
        json_array_append_new(list, json_pack("{s:s, s:i, s:f}", "class",
                                              job->serving->class_names[p->class_index], "index",
                                              p->class_index, "score", rounded(p->score, 1e-6)));
    }
    return json_pack("{s:I, s:o, s:f}", "model", (json_int_t)job->serving->version, "predictions",
                     list, "milliseconds", rounded(job->milliseconds, 1e-3));
}

static void refuse_image(struct request *req, enum image_verdict verdict)
{
    const char *code = image_verdict_code(verdict);
    switch (verdict) {
    case IMAGE_OK:
        break;
    case IMAGE_UNKNOWN_FORMAT:
        reply_problem(req, 415, code,
                      "The image is neither JPEG nor PNG by its first bytes; send one of these.");
        break;
    case IMAGE_DAMAGED:
        reply_problem(req, 422, code, "The image is truncated or corrupt; send it again whole.");
        break;
    case IMAGE_TOO_LARGE:
        reply_problem(req, 413, code, "The image has more than %d pixels, %d a side or %d scans.",
                      IMAGE_MAX_PIXELS, IMAGE_MAX_SIDE, IMAGE_MAX_SCANS);
        break;
    case IMAGE_EMPTY:
        reply_problem(req, 400, "empty_body",
                      "The image has no bytes; send a JPEG or PNG as the body.");
        break;
    case IMAGE_NO_MEMORY:
        reply_problem(req, 503, code, "Out of memory while decoding; try again later.");
        break;
    }
}

static void done(void *ctx)
{
    struct predict_job *job = ctx;
    if (job->verdict != IMAGE_OK)
        refuse_image(job->req, job->verdict);
    else if (job->rc != 0)
        reply_problem(job->req, 503, "no_memory",
                      "Out of memory while classifying; try again later.");
    else
        reply_json(job->req, 200, make_answer(job));
    serving_release(job->serving);
    free(job);
}

/* ?top=, or a reply and false. */
static bool read_top(struct request *req, int *top)
{
    const char *text = request_query(req, "top");
    char *end = NULL;
    long value = text ? strtol(text, &end, 10) : TOP_DEFAULT;
    if (text && (*text < '0' || *text > '9' || *end || value < 1 || value > TOP_MAX)) {
        reply_problem(req, 400, "bad_parameter", "`top` must be a number from 1 to %d.", TOP_MAX);
        return false;
    }
    *top = (int)value;
    return true;
}

/* The part named `image` of a multipart body, or a reply and false. */
static bool find_part(struct request *req, const char *content_type, struct predict_job *job)
{
    struct multipart reader;
    struct multipart_part part;
    int found = 0;
    int rc = multipart_init(&reader, content_type, job->image, job->image_bytes);
    while (rc == 0) {
        int more = multipart_next(&reader, &part);
        if (more != 1) {
            rc = more;
            break;
        }
        if (strcmp(part.name, "image") != 0)
            continue;
        found++;
        job->image = part.data;
        job->image_bytes = part.size_bytes;
    }
    if (rc < 0)
        reply_problem(req, 400, "bad_multipart", "The multipart/form-data body is malformed.");
    else if (found != 1)
        reply_problem(req, 400, "bad_multipart",
                      "A prediction takes exactly one part named `image`; %d were sent.", found);
    return rc == 0 && found == 1;
}

/* Where the image lies in the body, or a reply and false. Only multipart is told by its Content-Type: a raw image is
 * known by its first bytes, whatever it was called. */
static bool read_image(struct request *req, struct predict_job *job)
{
    const char *content_type = request_header(req, "Content-Type");
    job->image = request_body(req, &job->image_bytes);
    if (job->image_bytes == 0) {
        refuse_image(req, IMAGE_EMPTY);
        return false;
    }
    if (multipart_accepts(content_type) && !find_part(req, content_type, job))
        return false;
    uint64_t limit = request_app(req)->config.max_image_bytes;
    if (job->image_bytes > limit) {
        reply_problem(req, 413, "body_too_large", "The image is over the limit of %ju bytes.",
                      (uintmax_t)limit);
        return false;
    }
    return true;
}

void api_predict(struct request *req)
{
    struct app *app = request_app(req);
    struct predict_job *job = calloc(1, sizeof *job);
    if (!job) {
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
        return;
    }
    job->req = req;
    if (!read_top(req, &job->top) || !read_image(req, job))
        goto refused;
    job->serving = predictor_active(app->predictor);
    if (!job->serving) {
        reply_problem(req, 503, "no_model",
                      "Nothing is learned yet: PUT a batch of images to /api/v1/batches/NAME, "
                      "then POST a job for it to /api/v1/jobs.");
        goto refused;
    }
    if (work_run(app->loop, work, done, job) == 0)
        return;
    serving_release(job->serving);
    reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
refused:
    free(job);
}
