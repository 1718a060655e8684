/*
 * bench_engine.c - one measurement of the learning engine, as one line of JSON.
 *
 *   bench_engine train fp32|bf16 DEPTH C H W BATCH GANG SECONDS [TEACHERS [PER_IMAGE]]
 *   bench_engine infer fp32|bf16 DEPTH C H W BATCH GANG SECONDS
 *
 * `train` runs a whole job of the learner (views, teachers, step, update) on images of noise and
 * reports the images a second of its epochs after the first; peak memory is counted above what the
 * process and its libraries took before the first allocation. bench.py runs it in turn with the peer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/err.h"
#include "core/learner/learner.h"
#include "core/m2kd/mask.h"
#include "core/m2kd/snapshot.h"

enum { NEW_CLASSES = 5, IMAGES_PER_BATCH = 8, MAX_TEACHERS = 64 };

void openblas_set_num_threads(int threads);

struct bench {
    const char *mode;
    enum conv_precision precision;
    int depth, c, h, w, batch, gang, teachers, per_image;
    double seconds;
    struct dataset train, test;
    char dir[64], paths[MAX_TEACHERS][96];
    const char *snapshot_paths[MAX_TEACHERS];
    struct model *base;
    double epoch_seconds;
    int epochs;
};

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A line of /proc/self/status in kB: "VmRSS:" now, "VmHWM:" the peak. */
static double status_kb(const char *name)
{
    char line[256];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            kb = strtod(line + strlen(name), NULL);
    if (f)
        fclose(f);
    return kb;
}

static void die(const char *what, int err)
{
    fprintf(stderr, "bench_engine: %s: %s\n", what, err_str(err));
    exit(1);
}

static void make_data(struct bench *b, int old_classes)
{
    struct rng r;
    int count = b->batch * IMAGES_PER_BATCH, err = dataset_init(&b->train, count, b->h, b->w, b->c);
    if (!err)
        err = dataset_init(&b->test, 0, b->h, b->w, b->c);
    if (err)
        die("data", err);
    rng_init(&r, 1, 1);
    for (size_t i = 0; i < (size_t)count * b->h * b->w * b->c; i++)
        b->train.pixels[i] = (uint8_t)rng_u32(&r);
    for (int i = 0; i < count; i++)
        b->train.labels[i] = old_classes + i % NEW_CLASSES;
}

static struct resnet_spec bench_spec(const struct bench *b, int classes)
{
    struct resnet_spec spec = {
        .channels = b->c, .height = b->h, .width = b->w, .classes = classes};
    int err = resnet_from_depth(b->depth, &spec.arch, &spec.blocks);
    if (err)
        die("depth", err);
    return spec;
}

/* A model of `steps` steps of NEW_CLASSES classes with random weights. */
static struct model *random_model(struct bench *b, int steps)
{
    struct resnet_spec spec = bench_spec(b, steps * NEW_CLASSES);
    struct model *m;
    int ends[MAX_TEACHERS + 1];
    for (int i = 0; i < steps; i++)
        ends[i] = (i + 1) * NEW_CLASSES;
    int err = model_new(&m, &spec, ends, steps, conv_isa_best());
    if (!err)
        err = resnet_set_precision(m->net, b->precision);
    if (err)
        die("model", err);
    resnet_initialise(m->net, 1, m->params);
    return m;
}

/* Snapshots of the teachers, as the learner would have left them, and the model to start from. */
static void make_teachers(struct bench *b)
{
    snprintf(b->dir, sizeof b->dir, "/tmp/bench_engine.XXXXXX");
    if (!mkdtemp(b->dir))
        die("mkdtemp", ERR_IO);
    for (int i = 0; i < b->teachers; i++) {
        struct model *m = random_model(b, i + 1);
        uint8_t *mask = malloc(m->net->params.count);
        snprintf(b->paths[i], sizeof b->paths[i], "%s/%d", b->dir, i);
        b->snapshot_paths[i] = b->paths[i];
        int err = mask ? mask_by_magnitude(m->net, m->params, NULL, 0.25f, mask) : ERR_NOMEM;
        if (!err)
            err = snapshot_round(m, mask, SNAPSHOT_HALF);
        if (!err)
            err = snapshot_save(m, mask, SNAPSHOT_HALF, b->paths[i], NULL);
        if (err)
            die("snapshot", err);
        free(mask);
        model_release(m);
    }
    if (b->teachers)
        b->base = random_model(b, b->teachers);
}

static void on_epoch(void *ctx, const struct learner_epoch *e)
{
    struct bench *b = ctx;
    if (b->epochs++ > 0) /* the first one touches the memory */
        b->epoch_seconds += e->seconds;
}

static void bench_train(struct bench *b)
{
    char checkpoint[96], model[96], snapshot[96];
    atomic_int command = COMMAND_RUN;
    struct learner_options o;
    struct learner_result result;
    double libraries_kb = status_kb("VmRSS:"), start = now_seconds();
    make_teachers(b);
    make_data(b, b->teachers * NEW_CLASSES);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", b->dir);
    snprintf(model, sizeof model, "%s/model", b->dir);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", b->dir);
    learner_options_default(&o);
    o.arch = bench_spec(b, 1).arch;
    o.blocks = bench_spec(b, 1).blocks;
    o.precision = b->precision;
    o.batch = b->batch;
    o.gang = b->gang;
    o.prune_epochs = 0;
    o.teachers_per_image = b->per_image;
    o.sgd.lr = 1e-3f; /* noise teaches nothing: only stay finite */
    /* as many epochs as fit the time: one is timed first */
    for (o.epochs = 2; b->epoch_seconds < b->seconds; o.epochs *= 2) {
        b->epoch_seconds = 0;
        b->epochs = 0;
        struct learner_job job = {
            .options = &o,
            .train = &b->train,
            .test = &b->test,
            .classes = (b->teachers + 1) * NEW_CLASSES,
            .base = b->base,
            .snapshot_paths = b->snapshot_paths,
            .checkpoint_path = checkpoint,
            .model_path = model,
            .snapshot_path = snapshot,
            .command = &command,
            .on_epoch = on_epoch,
            .ctx = b,
        };
        start = now_seconds();
        int err = learner_run(&job, &result);
        if (err)
            die("learner_run", err);
        learner_result_release(&result);
        unlink(checkpoint);
    }
    double images = (double)b->train.count * (b->epochs - 1);
    printf("{\"images_per_s\": %.1f, \"memory_mb\": %.1f, \"overhead_s\": %.3f}\n",
           images / b->epoch_seconds, (status_kb("VmHWM:") - libraries_kb) / 1024,
           now_seconds() - start - b->epoch_seconds * b->epochs / (b->epochs - 1));
    unlink(model);
    unlink(snapshot);
    for (int i = 0; i < b->teachers; i++)
        unlink(b->paths[i]);
    rmdir(b->dir);
    model_release(b->base);
}

/* Inference over a gang, or of one image on one thread. */
struct inference {
    struct frozen *frozen;
    struct frozen_workspace *workspaces[256];
    struct gang *gang;
    int n, classes;
    size_t image;
    float *x, *logits;
};

static void infer_member(void *ctx, int member)
{
    struct inference *in = ctx;
    int lo, hi;
    gang_slice(in->n, member, gang_size(in->gang), &lo, &hi);
    frozen_forward(in->frozen, in->workspaces[member], hi - lo, in->x + (size_t)lo * in->image,
                   &(struct frozen_output){.logits = {in->logits + (size_t)lo * in->classes}});
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_infer(struct bench *b)
{
    enum { MAX_RUNS = 100000 };
    struct inference in = {.n = b->batch,
                           .classes = 2 * NEW_CLASSES,
                           .image = (size_t)b->c * b->h * b->w};
    struct model *m = random_model(b, 2);
    double *runs = malloc(MAX_RUNS * sizeof *runs), start = now_seconds();
    int count = 0, err = frozen_new(&in.frozen, m);
    if (!err)
        err = gang_new(&in.gang, b->gang, 0);
    for (int i = 0; !err && i < b->gang; i++)
        err = frozen_workspace_new(&in.workspaces[i], in.frozen);
    in.x = calloc((size_t)in.n * in.image, sizeof *in.x);
    in.logits = calloc((size_t)in.n * in.classes, sizeof *in.logits);
    if (err || !runs || !in.x || !in.logits)
        die("inference", err ? err : ERR_NOMEM);
    while (now_seconds() - start < b->seconds && count < MAX_RUNS) {
        double before = now_seconds();
        if (b->gang > 1)
            gang_run(in.gang, infer_member, &in);
        else
            infer_member(&in, 0);
        runs[count++] = now_seconds() - before;
    }
    qsort(runs, (size_t)count, sizeof *runs, compare_doubles);
    printf("{\"images_per_s\": %.1f, \"milliseconds\": %.4f}\n", in.n / runs[count / 2],
           1e3 * runs[count / 2]);
    for (int i = 0; i < b->gang; i++)
        frozen_workspace_free(in.workspaces[i]);
    gang_free(in.gang);
    frozen_free(in.frozen);
    model_release(m);
    free(runs);
    free(in.x);
    free(in.logits);
}

int main(int argc, char **argv)
{
    struct bench b = {.per_image = 1};
    int *numbers[] = {&b.depth, &b.c, &b.h, &b.w, &b.batch, &b.gang};
    if (argc < 10 || argc > 12) {
        fprintf(stderr, "usage: bench_engine train|infer fp32|bf16 DEPTH C H W BATCH GANG SECONDS "
                        "[TEACHERS [PER_IMAGE]]\n");
        return 2;
    }
    openblas_set_num_threads(1);
    b.mode = argv[1];
    b.precision = strcmp(argv[2], "bf16") ? CONV_FP32 : CONV_BF16;
    for (int i = 0; i < 6; i++)
        *numbers[i] = atoi(argv[3 + i]);
    b.seconds = atof(argv[9]);
    b.teachers = argc > 10 ? atoi(argv[10]) : 0;
    b.per_image = argc > 11 ? atoi(argv[11]) : 1;
    if (b.teachers < 0 || b.teachers > MAX_TEACHERS || b.gang < 1 || b.gang > 256)
        return 2;
    if (!strcmp(b.mode, "train"))
        bench_train(&b);
    else
        bench_infer(&b);
    return 0;
}
