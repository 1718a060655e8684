/*
 * options.c - see options.h. The table is the whole knowledge; the rest walks it.
 */
#include "server/jobs/options.h"

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/m2kd/snapshot.h"
#include "core/model/sgd.h"

enum option_type {
    OPTION_BOOL,
    OPTION_INT,
    OPTION_DEPTH,
    OPTION_REAL,
    OPTION_LIMIT, /* a number, or null for none: NaN */
    OPTION_SEED,
    OPTION_CHOICE
};

/* Well above the largest drop of ordinary runs (README: What is kept, and limits). */
#define GATE_DEFAULT 0.4f

struct option {
    const char *name; /* a dot means an object within the object */
    enum option_type type;
    size_t offset; /* into struct job_options */
    double min, max;
    const char *choices[4]; /* by value of the enum */
};

#define FIELD(member) offsetof(struct job_options, member)

/* What a request may say beside the precisions there are; a job has one of those. */
enum { PRECISION_FASTEST = CONV_PRECISION_COUNT };

static const struct option options[] = {
    {"method", OPTION_CHOICE, FIELD(learner.method), 0, 3,
     {"m2kd", "finetune", "frozen", "auto"}},
    {"loss", OPTION_CHOICE, FIELD(learner.loss), 0, 1, {"sigmoid", "softmax"}},
    {"teachers", OPTION_CHOICE, FIELD(learner.teachers), 0, 1, {"all", "last"}},
    {"teachers_per_image", OPTION_INT, FIELD(learner.teachers_per_image), 0, MODEL_MAX_STEPS,
     {NULL}},
    {"teachers_precision", OPTION_CHOICE, FIELD(learner.teachers_precision), 0, PRECISION_FASTEST,
     {"fp32", "bf16", "fastest"}},
    {"classifier", OPTION_CHOICE, FIELD(learner.classifier), 0, 2,
     {"head", "prototypes", "discriminant"}},
    {"experts", OPTION_INT, FIELD(learner.experts), 0, 63, {NULL}},
    {"aux", OPTION_BOOL, FIELD(learner.aux), 0, 1, {NULL}},
    {"logit_weight", OPTION_REAL, FIELD(learner.logit_weight), 0, 100, {NULL}},
    {"lambda", OPTION_REAL, FIELD(learner.lambda), 0, 100, {NULL}},
    {"feature_weight", OPTION_REAL, FIELD(learner.feature_weight), 0, 1000, {NULL}},
    {"aux_weight", OPTION_REAL, FIELD(learner.aux_weight), 0, 100, {NULL}},
    {"temperature", OPTION_REAL, FIELD(learner.temperature), 0.1, 100, {NULL}},
    {"head.reserve", OPTION_INT, FIELD(learner.head_reserve), 0, RESNET_MAX_CLASSES, {NULL}},
    {"exemplars.total", OPTION_INT, FIELD(learner.exemplars_total), 0, 1000000, {NULL}},
    {"exemplars.select", OPTION_CHOICE, FIELD(learner.exemplars_select), 0, 1,
     {"herding", "random"}},
    {"weight_align", OPTION_BOOL, FIELD(learner.weight_align), 0, 1, {NULL}},
    {"depth", OPTION_DEPTH, FIELD(learner.blocks), 8, 110, {NULL}},
    {"epochs", OPTION_INT, FIELD(learner.epochs), 1, 10000, {NULL}},
    {"batch", OPTION_INT, FIELD(learner.batch), 2, 4096, {NULL}},
    {"lr", OPTION_REAL, FIELD(learner.sgd.lr), 1e-6, 100, {NULL}},
    {"momentum", OPTION_REAL, FIELD(learner.sgd.momentum), 0, 0.999, {NULL}},
    {"weight_decay", OPTION_REAL, FIELD(learner.sgd.weight_decay), 0, 1, {NULL}},
    {"schedule", OPTION_CHOICE, FIELD(learner.sgd.schedule), 0, 1, {"cosine", "step"}},
    {"lr_later", OPTION_REAL, FIELD(learner.lr_later), 1e-4, 10, {NULL}},
    {"pad", OPTION_INT, FIELD(learner.view.pad), 0, 16, {NULL}},
    {"flip", OPTION_BOOL, FIELD(learner.view.flip), 0, 1, {NULL}},
    {"mirror", OPTION_BOOL, FIELD(learner.mirror), 0, 1, {NULL}},
    {"feature_power", OPTION_REAL, FIELD(learner.feature_power), MODEL_POWER_MIN, 1, {NULL}},
    {"prune.keep", OPTION_REAL, FIELD(learner.prune_keep), 0.001, 1, {NULL}},
    {"prune.epochs", OPTION_INT, FIELD(learner.prune_epochs), 0, 1000, {NULL}},
    {"prune.bits", OPTION_INT, FIELD(learner.prune_bits), QUANTISE_MIN_BITS, SNAPSHOT_HALF, {NULL}},
    {"store", OPTION_CHOICE, FIELD(learner.store), 0, 1, {"standalone", "shared"}},
    {"precision", OPTION_CHOICE, FIELD(learner.precision), 0, PRECISION_FASTEST,
     {"fp32", "bf16", "fastest"}},
    {"seed", OPTION_SEED, FIELD(learner.seed), 0, 9007199254740991.0, {NULL}},
    {"gate", OPTION_LIMIT, FIELD(gate), 0, 1, {NULL}},
    {"input.channels", OPTION_INT, FIELD(channels), 1, 3, {NULL}},
    {"input.height", OPTION_INT, FIELD(height), 8, 512, {NULL}},
    {"input.width", OPTION_INT, FIELD(width), 8, 512, {NULL}},
};
enum { OPTION_COUNT = sizeof options / sizeof options[0] };

int refuse(struct refusal *r, int status, const char *code, const char *format, ...)
{
    va_list arguments;
    r->status = status;
    snprintf(r->code, sizeof r->code, "%s", code);
    va_start(arguments, format);
    vsnprintf(r->detail, sizeof r->detail, format, arguments);
    va_end(arguments);
    return ERR_INVALID;
}

void job_options_default(struct job_options *o)
{
    *o = (struct job_options){0};
    learner_options_default(&o->learner);
    o->learner.method = METHOD_AUTO;
    o->gate = GATE_DEFAULT;
}

/* ---- reading ---- */

static const struct option *option_find(const char *name)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static int bad_choice(const struct option *p, struct refusal *why)
{
    char list[128] = "";
    for (int i = 0; i <= (int)p->max; i++) {
        size_t at = strlen(list);
        const char *before = i == 0 ? "" : i < (int)p->max ? ", " : " or ";
        snprintf(list + at, sizeof list - at, "%s\"%s\"", before, p->choices[i]);
    }
    return refuse(why, 422, "bad_option", "Option '%s' must be %s.", p->name, list);
}

static int bad_option(const struct option *p, struct refusal *why)
{
    switch (p->type) {
    case OPTION_BOOL:
        return refuse(why, 422, "bad_option", "Option '%s' must be true or false.", p->name);
    case OPTION_CHOICE:
        return bad_choice(p, why);
    case OPTION_DEPTH:
        return refuse(why, 422, "bad_option",
                      "Option '%s' must be 18 (ResNet-18) or 6n+2 (8, 14, 20, 32, ...) from %.0f to "
                      "%.0f.",
                      p->name, p->min, p->max);
    case OPTION_REAL:
        return refuse(why, 422, "bad_option", "Option '%s' must be a number from %g to %g.",
                      p->name, p->min, p->max);
    case OPTION_LIMIT:
        return refuse(why, 422, "bad_option",
                      "Option '%s' must be a number from %g to %g, or null.", p->name, p->min,
                      p->max);
    case OPTION_INT:
    case OPTION_SEED:
        return refuse(why, 422, "bad_option",
                      "Option '%s' must be a whole number from %.0f to %.0f.", p->name, p->min,
                      p->max);
    }
    return ERR_INVALID;
}

static int set_choice(const struct option *p, void *field, const json_t *value)
{
    const char *text = json_string_value(value);
    for (int i = 0; text && i <= (int)p->max; i++) {
        if (strcmp(p->choices[i], text) == 0) {
            memcpy(field, &i, sizeof i); /* an enum of non-negative values is as wide as int */
            return 0;
        }
    }
    return ERR_INVALID;
}

/* ERR_INVALID when the value's type or range is wrong. */
static int set_option(struct job_options *o, const struct option *p, const json_t *value)
{
    char *field = (char *)o + p->offset;
    if (p->type == OPTION_BOOL) {
        if (!json_is_boolean(value))
            return ERR_INVALID;
        *(bool *)field = json_is_true(value);
        return 0;
    }
    if (p->type == OPTION_CHOICE)
        return set_choice(p, field, value);
    if (p->type == OPTION_LIMIT && json_is_null(value)) {
        *(float *)field = NAN;
        return 0;
    }
    bool real = p->type == OPTION_REAL || p->type == OPTION_LIMIT;
    if (real ? !json_is_number(value) : !json_is_integer(value))
        return ERR_INVALID;
    double number = json_number_value(value);
    if (!(number >= p->min && number <= p->max))
        return ERR_INVALID;
    if (real)
        *(float *)field = (float)number;
    else if (p->type == OPTION_SEED)
        *(uint64_t *)field = (uint64_t)json_integer_value(value);
    else if (p->type == OPTION_INT)
        *(int *)field = (int)number;
    else
        return resnet_from_depth((int)number, &o->learner.arch, &o->learner.blocks);
    return 0;
}

/* Whether some option is a member of the object `key`. */
static bool is_group(const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strncmp(options[i].name, key, n) == 0 && options[i].name[n] == '.')
            return true;
    return false;
}

/* Members of one object; `prefix` is "" or "prune.". One level of nesting is all the table has. */
static int parse_members(struct job_options *o, const json_t *json, const char *prefix,
                         struct refusal *why)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json, key, value)
    {
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefix, key);
        const struct option *p = option_find(name);
        bool group = !*prefix && is_group(key);
        if (group && strcmp(key, "input") == 0 && json_is_null(value))
            continue; /* as a job without a fixed input shows it */
        if (group && json_is_object(value)) {
            snprintf(name, sizeof name, "%s.", key);
            int err = parse_members(o, value, name, why);
            if (err)
                return err;
            continue;
        }
        if (group)
            return refuse(why, 422, "bad_option", "Option '%s' must be an object.", key);
        if (!p)
            return refuse(why, 422, "unknown_option",
                          "There is no option '%.60s'. schema/job_options.json lists them.", name);
        if (set_option(o, p, value))
            return bad_option(p, why);
        o->depth_given |= p->type == OPTION_DEPTH;
        o->classifier_given |= p->offset == FIELD(learner.classifier);
        o->exemplars_given |= p->offset == FIELD(learner.exemplars_total);
        o->input_given |= p->offset >= FIELD(channels);
        o->mirror_given |= p->offset == FIELD(learner.mirror);
        o->feature_power_given |= p->offset == FIELD(learner.feature_power);
    }
    return 0;
}

static int check_input(const struct job_options *o, struct refusal *why)
{
    if (o->channels == 2)
        return refuse(why, 422, "bad_option", "Option 'input.channels' must be 1 or 3.");
    bool any = o->channels || o->height || o->width;
    if (any && !(o->channels && o->height && o->width))
        return refuse(why, 422, "bad_option",
                      "Option 'input' needs channels, height and width together.");
    int side = resnet_min_side(o->learner.arch);
    if (any && (o->height < side || o->width < side))
        return refuse(why, 422, "bad_option",
                      "With depth %d, 'input.height' and 'input.width' must be at least %d.",
                      resnet_depth(o->learner.arch, o->learner.blocks), side);
    return 0;
}

/* Here and now, so that what is stored names what is computed. */
static void settle_precision(enum conv_precision *precision)
{
    if ((int)*precision == PRECISION_FASTEST)
        *precision = conv_precision_fastest();
}

int job_options_parse(struct job_options *o, const json_t *json, struct refusal *why)
{
    struct job_options parsed = *o;
    const char *bad;
    if (json && !json_is_object(json))
        return refuse(why, 422, "bad_field", "'options' must be an object.");
    int err = json ? parse_members(&parsed, json, "", why) : 0;
    if (!err)
        err = check_input(&parsed, why);
    if (err)
        return err;
    settle_precision(&parsed.learner.precision);
    settle_precision(&parsed.learner.teachers_precision);
    if (learner_options_check(&parsed.learner, &bad))
        return refuse(why, 422, "bad_option",
                      "Option '%s' is out of range, or does not go with 'method' and 'loss' as they "
                      "are. schema/job_options.json says what goes with what.",
                      bad);
    *o = parsed;
    return 0;
}

/* ---- writing ---- */

/* A float as the shortest decimal that reads back the same: 0.1, not 0.10000000149. */
static json_t *float_json(float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *option_json(const struct job_options *o, const struct option *p)
{
    const char *field = (const char *)o + p->offset;
    switch (p->type) {
    case OPTION_BOOL:
        return json_boolean(*(const bool *)field);
    case OPTION_INT:
        return json_integer(*(const int *)field);
    case OPTION_DEPTH:
        return json_integer(resnet_depth(o->learner.arch, o->learner.blocks));
    case OPTION_LIMIT:
        if (isnan(*(const float *)field))
            return json_null();
        return float_json(*(const float *)field);
    case OPTION_REAL:
        return float_json(*(const float *)field);
    case OPTION_SEED:
        return json_integer((json_int_t) * (const uint64_t *)field);
    case OPTION_CHOICE: {
        int choice;
        memcpy(&choice, field, sizeof choice);
        return json_string(p->choices[choice]);
    }
    }
    return NULL;
}

static int put_option(json_t *object, const struct job_options *o, const struct option *p)
{
    const char *dot = strchr(p->name, '.');
    if (!dot)
        return json_object_set_new(object, p->name, option_json(o, p));
    char group[32];
    snprintf(group, sizeof group, "%.*s", (int)(dot - p->name), p->name);
    json_t *inner = json_object_get(object, group);
    if (!inner) {
        inner = json_object();
        if (json_object_set_new(object, group, inner))
            return -1;
    }
    return json_object_set_new(inner, dot + 1, option_json(o, p));
}

json_t *job_options_json(const struct job_options *o)
{
    json_t *object = json_object();
    for (int i = 0; object && i < OPTION_COUNT; i++) {
        bool unset = options[i].offset >= FIELD(channels) && o->channels == 0;
        int failed = unset ? json_object_set_new(object, "input", json_null())
                           : put_option(object, o, &options[i]);
        if (failed) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

int job_options_dump(const struct job_options *o, char **out)
{
    json_t *object = job_options_json(o);
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(object);
    if (!text)
        return ERR_NOMEM;
    *out = text;
    return 0;
}

int job_options_load(struct job_options *o, const char *text)
{
    struct refusal why;
    struct job_options loaded;
    json_t *object = json_loads(text, 0, NULL);
    if (!object)
        return ERR_CORRUPT;
    job_options_default(&loaded);
    loaded.learner.mirror = false; /* as it was before jobs had these two */
    loaded.learner.feature_power = 1;
    int err = job_options_parse(&loaded, object, &why);
    json_decref(object);
    if (err)
        return ERR_CORRUPT;
    loaded.depth_given = loaded.input_given = false;
    loaded.mirror_given = loaded.feature_power_given = false;
    loaded.classifier_given = loaded.learner.classifier != CLASSIFIER_HEAD;
    loaded.exemplars_given = loaded.learner.exemplars_total > 0;
    *o = loaded;
    return 0;
}
