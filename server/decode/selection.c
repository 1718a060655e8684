/*
 * selection.c - see selection.h.
 */
#include "server/decode/selection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/decode/builder.h"

/* Cuts the next comma-separated field off *list; false at the end. Too long fields come out cut: no
 * valid label. */
static bool next_field(const char **list, char *field, size_t field_bytes)
{
    if (!*list)
        return false;
    size_t bytes = strcspn(*list, ",");
    snprintf(field, field_bytes, "%.*s", (int)bytes, *list);
    *list = (*list)[bytes] == ',' ? *list + bytes + 1 : NULL;
    return true;
}

static void select_value(struct selection *s, int value)
{
    s->class_of[value] = s->count;
    snprintf(s->labels[s->count++], LABEL_BYTES, "%d", value);
}

/* ?classes=0,1: which values are taken, in this order. */
static int select_classes(struct selection *s, const char *list, struct ingest_error *error)
{
    char field[8];
    while (next_field(&list, field, sizeof field)) {
        char *end;
        long value = strtol(field, &end, 10);
        if (field[0] < '0' || field[0] > '9' || *end != '\0' || value > 255 ||
            s->class_of[value] >= 0)
            return ingest_refuse(error, 400, "bad_query",
                                 "classes is a list of different label values "
                                 "from 0 to 255, like classes=0,1");
        select_value(s, (int)value);
    }
    return 0;
}

/* ?names=: those of the values in ?classes=, or of 0, 1, 2 ... */
static int select_names(struct selection *s, const char *list, bool classes_given,
                        struct ingest_error *error)
{
    char field[LABEL_BYTES + 1];
    int count = 0;
    while (next_field(&list, field, sizeof field)) {
        if (!label_valid(field))
            return ingest_refuse(error, 422, "bad_label",
                                 "names has an entry that is no valid class name: "
                                 "1 to 64 bytes of UTF-8 without control characters, / or \\");
        for (int i = 0; i < count; i++) {
            if (strcmp(s->labels[i], field) == 0)
                return ingest_refuse(error, 400, "bad_query", "names has an entry twice");
        }
        if (count == 256)
            return ingest_refuse(error, 400, "bad_query", "names has more than 256 entries");
        if (!classes_given)
            s->class_of[s->count++] = count;
        memcpy(s->labels[count++], field, strlen(field) + 1);
    }
    if (count != s->count)
        return ingest_refuse(error, 400, "bad_query",
                             "classes has %d entries and names %d; they go in pairs", s->count,
                             count);
    return 0;
}

bool selection_given(const struct ingest_request *req)
{
    return req->classes || req->names;
}

int selection_init(struct selection *s, const struct ingest_request *req, const bool *present,
                   struct ingest_error *error)
{
    s->count = 0;
    s->strict = !req->classes;
    for (int value = 0; value < 256; value++)
        s->class_of[value] = -1;
    int err = req->classes ? select_classes(s, req->classes, error) : 0;
    if (err == 0 && req->names)
        err = select_names(s, req->names, req->classes != NULL, error);
    for (int value = 0; value < 256 && err == 0 && !selection_given(req); value++) {
        if (present[value])
            select_value(s, value);
    }
    return err;
}

int selection_find(const struct selection *s, int value, int *position, struct ingest_error *error)
{
    *position = s->class_of[value];
    if (*position >= 0 || !s->strict)
        return 0;
    return ingest_refuse(error, 400, "bad_query",
                         "labels hold the value %d, for which names has no entry", value);
}
