/*
 * inference_v2.c - /v2: the Open Inference Protocol, as the Python clients of KServe and Triton
 * speak it.
 *
 * There is one model, "accreted", and its versions are ours. Health bodies please all three known
 * readings at once: KServe's client asks for the keys `live` and `ready`, Triton's looks at the
 * status alone, the specification names `live`. Parsing, decoding and writing happen on the
 * predictor's threads.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/api/predict.h"
#include "server/api/v2_reply.h"
#include "server/api/v2_request.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/jobs/predictor.h"
#include "server/store/versions.h"

#define MODEL "accreted"

_Static_assert((int)V2_MAX_IMAGES == (int)PREDICTOR_BATCH, "a request is one task");

/* ---- which version ---- */

static bool knows_model(struct request *req)
{
    if (strcmp(request_param(req, "model"), MODEL) == 0)
        return true;
    reply_problem(req, 404, "unknown_model", "There is no model '%.40s'; there is '" MODEL "'.",
                  request_param(req, "model"));
    return false;
}

/* The version in the path, 0 where none stands there; or a reply and false. */
static bool read_version(struct request *req, int64_t *version)
{
    const char *text = request_param(req, "version");
    *version = 0;
    if (!*text || parse_id(text, version))
        return true;
    reply_problem(req, 404, "unknown_version", "There is no model version '%.40s'.", text);
    return false;
}

/* Makes v->classes what it answers: without what is retired. ERR_INVALID: nothing is left. */
static int count_live(struct db_txn *t, struct version *v)
{
    struct class_row *classes;
    int count;
    int err = classes_of(t, v->version, &classes, &count);
    if (err)
        return err;
    v->classes = classes_live(classes, count);
    free(classes);
    return v->classes ? 0 : ERR_INVALID;
}

/* What is asked about: the version in the path, or the active one. Replies and returns false where
 * there is none. */
static bool find_version(struct request *req, struct version *v)
{
    struct db_txn *t = db_reader(request_app(req)->db);
    int64_t version;
    if (!knows_model(req) || !read_version(req, &version))
        return false;
    int err = version ? versions_get(t, version, v) : versions_active(t, v);
    if (!err)
        err = count_live(t, v);
    if (err == ERR_MISSING || err == ERR_INVALID)
        reply_prediction_error(req, err, version);
    else if (err)
        reply_store_error(req, "The database said", err);
    return err == 0;
}

static json_t *version_text(int64_t version)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, version);
    return json_string(text);
}

/* ---- server ---- */

void api_v2_server(struct request *req)
{
    reply_json(req, 200,
               json_pack("{s:s, s:s, s:[s, s, s, s, s]}", "name", "accreted", "version",
                         ACCRETED_VERSION, "extensions", "binary_tensor_data", "classification",
                         "model_configuration", "model_repository", "statistics"));
}

void api_v2_live(struct request *req)
{
    reply_json(req, 200, json_pack("{s:b, s:b}", "live", 1, "ready", 1));
}

/* Ready is who can answer a prediction. */
static bool is_ready(struct request *req)
{
    struct serving *s = predictor_active(request_app(req)->predictor);
    serving_release(s);
    return s != NULL;
}

void api_v2_ready(struct request *req)
{
    bool ready = is_ready(req);
    reply_json(req, ready ? 200 : 503, json_pack("{s:b, s:b}", "live", 1, "ready", (int)ready));
}

/* ---- model ---- */

void api_v2_model_ready(struct request *req)
{
    struct db_txn *t = db_reader(request_app(req)->db);
    int64_t version;
    if (!knows_model(req) || !read_version(req, &version))
        return;
    struct version v;
    bool ready = version ? versions_get(t, version, &v) == 0 && count_live(t, &v) == 0
                         : is_ready(req);
    reply_json(req, ready ? 200 : 503,
               json_pack("{s:s, s:b}", "name", MODEL, "ready", (int)ready));
}

/* Every version, oldest first, as texts. */
static int list_versions(struct db_txn *t, json_t **out)
{
    struct version *versions;
    int count;
    int err = versions_list(t, 0, PAGE_MAX, &versions, &count);
    if (err)
        return err;
    *out = json_array();
    for (int i = count; i-- > 0;)
        json_array_append_new(*out, version_text(versions[i].version));
    free(versions);
    return 0;
}

/* A model's input never changes, so the active version tells it for all. */
static bool read_spec(struct request *req, struct resnet_spec *spec)
{
    struct serving *s = predictor_active(request_app(req)->predictor);
    if (!s) {
        reply_prediction_error(req, ERR_MISSING, 0);
        return false;
    }
    *spec = *serving_spec(s);
    serving_release(s);
    return true;
}

void api_v2_model(struct request *req)
{
    struct version v;
    struct resnet_spec spec;
    json_t *versions;
    if (!find_version(req, &v) || !read_spec(req, &spec))
        return;
    int err = list_versions(db_reader(request_app(req)->db), &versions);
    if (err) {
        reply_store_error(req, "The database said", err);
        return;
    }
    json_t *inputs = json_pack("[{s:s, s:s, s:[i, i]}, {s:s, s:s, s:[i, i, i, i]}]", "name",
                               "image", "datatype", "BYTES", "shape", -1, 1, "name", "pixels",
                               "datatype", "FP32", "shape", -1, spec.channels, spec.height,
                               spec.width);
    json_t *outputs = json_pack("[{s:s, s:s, s:[i, i]}, {s:s, s:s, s:[i, i]}, "
                                "{s:s, s:s, s:[i, i]}]", "name", "logits", "datatype", "FP32", "shape", -1, v.classes,
                                "name", "probabilities", "datatype", "FP32", "shape", -1,
                                v.classes, "name", "label", "datatype", "BYTES", "shape", -1, 1);
    reply_json(req, 200, json_pack("{s:s, s:o, s:s, s:o, s:o}", "name", MODEL, "versions",
                                   versions, "platform", "accreted_v1", "inputs", inputs,
                                   "outputs", outputs));
}

void api_v2_model_config(struct request *req)
{
    struct version v;
    struct resnet_spec spec;
    if (!find_version(req, &v) || !read_spec(req, &spec))
        return;
    json_t *input = json_pack(
        "[{s:s, s:s, s:[i], s:b}, {s:s, s:s, s:s, s:[i, i, i], s:b}]", "name", "image",
        "data_type", "TYPE_STRING", "dims", 1, "optional", 1, "name", "pixels", "data_type",
        "TYPE_FP32", "format", "FORMAT_NCHW", "dims", spec.channels, spec.height, spec.width,
        "optional", 1);
    json_t *output = json_pack("[{s:s, s:s, s:[i]}, {s:s, s:s, s:[i]}, {s:s, s:s, s:[i]}]", "name",
                               "logits", "data_type", "TYPE_FP32", "dims", v.classes, "name",
                               "probabilities", "data_type", "TYPE_FP32", "dims", v.classes,
                               "name", "label", "data_type", "TYPE_STRING", "dims", 1);
    reply_json(req, 200, json_pack("{s:s, s:s, s:s, s:i, s:o, s:o}", "name", MODEL, "platform",
                                   "accreted_v1", "backend", "accreted", "max_batch_size",
                                   V2_MAX_IMAGES, "input", input, "output", output));
}

/* ---- statistics ---- */

static json_t *duration(uint64_t count, uint64_t ns)
{
    return json_pack("{s:I, s:I}", "count", (json_int_t)count, "ns", (json_int_t)ns);
}

static json_t *stats_json(struct request *req, int64_t version)
{
    struct predictor_stats s;
    predictor_stats(request_app(req)->predictor, version, &s);
    json_t *parts = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "success",
                              duration(s.tasks, s.task_ns), "fail",
                              duration(s.failed_tasks, s.failed_ns), "queue",
                              duration(s.tasks, s.queue_ns), "compute_input",
                              duration(s.tasks, s.prepare_ns), "compute_infer",
                              duration(s.tasks, s.classify_ns), "compute_output",
                              duration(s.tasks, s.reply_ns));
    return json_pack("{s:s, s:o, s:I, s:I, s:I, s:o, s:[]}", "name", MODEL, "version",
                     version_text(version), "last_inference", (json_int_t)s.last_ms,
                     "inference_count", (json_int_t)s.images, "execution_count",
                     (json_int_t)s.batches, "inference_stats", parts, "batch_stats");
}

void api_v2_model_stats(struct request *req)
{
    struct version v;
    if (find_version(req, &v))
        reply_json(req, 200, json_pack("{s:[o]}", "model_stats", stats_json(req, v.version)));
}

void api_v2_stats(struct request *req)
{
    struct serving *s = predictor_active(request_app(req)->predictor);
    json_t *list = json_array();
    if (s)
        json_array_append_new(list, stats_json(req, s->version));
    serving_release(s);
    reply_json(req, 200, json_pack("{s:o}", "model_stats", list));
}

/* ---- repository ---- */

static json_t *index_entry(const char *version, const char *state, const char *reason)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "name", MODEL, "version", version, "state", state,
                     "reason", reason);
}

/* Every version that is published can answer, so {"ready": true} leaves out only the model that has
 * none. */
void api_v2_index(struct request *req)
{
    size_t body_bytes, i;
    json_t *versions, *version;
    const void *text = request_body(req, &body_bytes);
    json_t *body = body_bytes ? json_loadb(text, body_bytes, JSON_REJECT_DUPLICATES, NULL)
                              : json_object();
    json_t *ready = json_object_get(body, "ready");
    bool ready_only = json_is_true(ready), good = json_is_object(body) &&
                                                  (!ready || json_is_boolean(ready));
    json_decref(body);
    if (!good) {
        reply_problem(req, 400, "bad_request",
                      "The body is nothing, or a JSON object like {\"ready\": true}.");
        return;
    }
    int err = list_versions(db_reader(request_app(req)->db), &versions);
    if (err) {
        reply_store_error(req, "The database said", err);
        return;
    }
    json_t *index = json_array();
    json_array_foreach(versions, i, version) {
        json_array_append_new(index, index_entry(json_string_value(version), "READY", ""));
    }
    if (json_array_size(versions) == 0 && !ready_only)
        json_array_append_new(index, index_entry("", "UNAVAILABLE", "nothing is learned yet"));
    json_decref(versions);
    reply_json(req, 200, index);
}

void api_v2_load(struct request *req)
{
    if (knows_model(req))
        reply_problem(req, 400, "not_supported",
                      "Versions are not loaded or unloaded by hand: each published one answers, "
                      "and a job publishes the next.");
}

/* ---- infer ---- */

struct infer {
    struct predictor_task task; /* first, so that a task is its infer */
    struct request *req;
    const void *body; /* borrowed from the request */
    size_t body_bytes;
    int64_t json_bytes; /* Inference-Header-Content-Length */
    int64_t version;    /* 0: the active one */
    struct v2_request request;
    struct v2_reply reply;
    enum image_verdict verdict; /* of the image that was refused */
    int refused;
    char why[V2_WHY_BYTES]; /* the request was refused as a whole */
};

static int prepare_image(struct infer *in, int index, float *x)
{
    struct image image;
    const struct v2_image *from = &in->request.images[index];
    if (atomic_load(&request_app(in->req)->stopping))
        return ERR_STOPPED; /* it has its answer already */
    in->verdict = image_decode(&image, from->data, from->size_bytes);
    if (in->verdict != IMAGE_OK) {
        in->refused = index;
        return ERR_FORMAT;
    }
    int err = serving_fit(in->task.serving, &image, x);
    image_release(&image);
    return err;
}

static int prepare(struct predictor_task *task)
{
    struct infer *in = (struct infer *)task;
    const struct resnet_spec *spec = serving_spec(task->serving);
    const struct v2_shape shape = {spec->channels, spec->height, spec->width};
    size_t floats = serving_image_floats(task->serving);
    int err = v2_request_parse(&in->request, in->body, in->body_bytes, in->json_bytes, &shape,
                               in->why);
    float *x = err ? NULL : predictor_task_room(task, in->request.count);
    if (!err && !x)
        err = ERR_NOMEM;
    for (int i = 0; i < in->request.count && !err; i++) {
        if (in->request.encoded)
            err = prepare_image(in, i, x + (size_t)i * floats);
        else
            serving_fit_planes(task->serving, in->request.pixels + (size_t)i * floats,
                               x + (size_t)i * floats);
    }
    task->count = in->request.count;
    return err;
}

static int finish(struct predictor_task *task)
{
    struct infer *in = (struct infer *)task;
    return v2_reply_build(&in->reply, &in->request, MODEL, task->serving, task->scores,
                          task->probabilities);
}

static void reply_tensors(struct infer *in)
{
    char length[24];
    if (in->reply.binary) {
        snprintf(length, sizeof length, "%zu", in->reply.json_bytes);
        reply_header(in->req, "Inference-Header-Content-Length", length);
    }
    reply_copy(in->req, 200, in->reply.binary ? "application/octet-stream" : "application/json",
               in->reply.bytes, in->reply.size_bytes);
}

static void reply_failure(struct infer *in)
{
    const char *detail;
    int err = in->task.err;
    if (!in->task.serving) {
        reply_prediction_error(in->req, err == ERR_NOMEM ? err : ERR_CORRUPT, in->version);
    } else if (err == ERR_NUMERIC) {
        reply_problem(in->req, 500, "internal_error", "The model's scores are not finite.");
    } else if (err != ERR_FORMAT) {
        reply_prediction_error(in->req, ERR_NOMEM, in->version);
    } else if (in->why[0]) {
        reply_problem(in->req, 400, "bad_request", "%s", in->why);
    } else {
        int status = image_refusal(in->verdict, &detail);
        reply_problem(in->req, status == 503 ? 503 : 400, image_verdict_code(in->verdict),
                      "Element %d of `image`: %s", in->refused, detail);
    }
}

static void done(struct predictor_task *task)
{
    struct infer *in = (struct infer *)task;
    if (task->err)
        reply_failure(in);
    else
        reply_tensors(in);
    v2_reply_release(&in->reply);
    v2_request_release(&in->request);
    predictor_task_release(task);
    free(in);
}

/* The headers that say how the body is to be read, or a reply and false. */
static bool read_headers(struct request *req, struct infer *in)
{
    const char *encoding = request_header(req, "Content-Encoding");
    if (encoding && strcasecmp(encoding, "identity") != 0) {
        reply_problem(req, 415, "unsupported_encoding",
                      "Bodies are taken uncompressed, not as '%.40s'.", encoding);
        return false;
    }
    if (v2_header_length(request_header(req, "Inference-Header-Content-Length"), &in->json_bytes))
        return true;
    reply_problem(req, 400, "bad_request",
                  "Inference-Header-Content-Length is not a number of bytes.");
    return false;
}

void api_v2_infer(struct request *req)
{
    struct infer *in = calloc(1, sizeof *in);
    if (!in) {
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
        return;
    }
    in->req = req;
    in->task.prepare = prepare;
    in->task.finish = finish;
    in->task.done = done;
    in->body = request_body(req, &in->body_bytes);
    if (!knows_model(req) || !read_version(req, &in->version) || !read_headers(req, in)) {
        free(in);
        return;
    }
    int err = predictor_submit(request_app(req)->predictor, &in->task, in->version);
    if (err) {
        reply_prediction_error(req, err, in->version);
        free(in);
    }
}
