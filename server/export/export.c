/*
 * export.c - see export.h.
 */
#include "server/export/export.h"

enum { FLOAT_DIGITS = 9 }; /* tell every two floats apart */

json_t *export_labels(const struct export_source *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->model->net->spec.classes; i++)
        json_array_append_new(list, json_string(s->labels[i]));
    return list;
}

json_t *export_steps(const struct export_source *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->model->step_count; i++)
        json_array_append_new(list, json_integer(s->model->step_end[i]));
    return list;
}

const char *export_classifier(const struct export_source *s)
{
    switch (s->model->classifier) {
    case CLASSIFIER_HEAD:
        return "head";
    case CLASSIFIER_PROTOTYPES:
        return "prototypes";
    case CLASSIFIER_DISCRIMINANT:
        return "discriminant";
    }
    return "";
}

json_t *export_floats(const float *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_real((double)values[i]));
    return list;
}

char *export_text(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(FLOAT_DIGITS)) : NULL;
    json_decref(value);
    return text;
}
