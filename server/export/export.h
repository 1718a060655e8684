/*
 * export.h - what an exported file is made of, for onnx.c and safetensors.c.
 */
#ifndef ACCRETED_SERVER_EXPORT_EXPORT_H
#define ACCRETED_SERVER_EXPORT_EXPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/model/model.h"

#define EXPORT_LICENCE                                                                             \
    "The weights belong to whoever trained them; accreted, which wrote this file, is MIT-licensed."

struct export_source { /* all borrowed */
    struct model *model;
    const char *const *labels; /* (classes), UTF-8 */
    int64_t version;
    bool from_snapshot; /* rebuilt from the pruned snapshot, no longer dense */
};

/* Names by output index; classes known after each step; the classifier's name. New references,
 * NULL without memory. */
json_t *export_labels(const struct export_source *s);
json_t *export_steps(const struct export_source *s);
const char *export_classifier(const struct export_source *s); /* "head" or "prototypes" */
/* `count` floats with all their digits: read back, they are the same floats. */
json_t *export_floats(const float *values, int count);
/* Compact JSON text of `value`, whose reference it takes; to be freed; NULL without memory. */
char *export_text(json_t *value);

#endif
