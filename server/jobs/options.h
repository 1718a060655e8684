/*
 * options.h - the options of a job: a table from JSON names to struct learner_options.
 *
 * What a client may set, its range and its default stand in one table (options.c). A job stores the
 * full effective set, so that it can be read back, repeated, and go on after an upgrade. Pure
 * functions, any thread.
 */
#ifndef ACCRETED_SERVER_JOBS_OPTIONS_H
#define ACCRETED_SERVER_JOBS_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>

#include "core/learner/learner.h"

struct job_options {
    struct learner_options learner;
    float gate; /* most mean drop of the earlier steps' accuracy (gate.h); NaN: any */
    int channels, height, width; /* of the network's input; 0 = from the images (first job) */
    bool depth_given, input_given, mirror_given, feature_power_given; /* by this client: they belong to the first job alone */
    bool classifier_given, exemplars_given; /* a refining job takes its base's else (plan.c) */
};

struct refusal { /* why a request or a job is refused; an API problem or a job's error */
    int status; /* HTTP */
    char code[32];
    char detail[512];
};

/* Fills *r; returns ERR_INVALID, for `return refuse(...)`. */
int refuse(struct refusal *r, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void job_options_default(struct job_options *o);

/* Applies the members of `json` (an object, or NULL) to *o, which holds the defaults. ERR_INVALID
 * fills *why: 422 unknown_option or bad_option, naming the option and its range. *o is unchanged
 * then. */
int job_options_parse(struct job_options *o, const json_t *json, struct refusal *why);

/* The object that job_options_parse takes, with every option; new reference, NULL without memory.
 */
json_t *job_options_json(const struct job_options *o);

/* The same as text, to and from the store. Errors: ERR_NOMEM; ERR_CORRUPT. The full set is
 * stored, so what the client gave is not known: depth, input, mirror and feature_power count as not given, a classifier
 * unless it is the head, and exemplars unless they are none, as a job that came to refine a version
 * (plan.c) would be refused for the one and delete the images kept by the other. */
int job_options_dump(const struct job_options *o, char **out);
int job_options_load(struct job_options *o, const char *text);

#endif
