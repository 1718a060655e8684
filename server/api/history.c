/*
 * history.c - /api/v1/history: what was learned when, and how well it is kept.
 *
 * History follows the active version's chain of parents. Everything is computed from the stored
 * counts at each request: some thousand rows at most.
 */
#include "server/api/history.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/api/measures.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/store/versions.h"

/* A matrix of more cells than this is no reply for a status page; it is null then. */
enum { CONFUSION_MAX_CLASSES = 512 };

struct history {
    struct version *chain;
    int steps;
    struct class_row *classes;
    int class_count;
    struct class_score *scores;
    int score_count;
    struct confusion_cell *cells; /* of the latest version */
    int cell_count;
    struct measures measures;
};

static void history_release(struct history *h)
{
    free(h->chain);
    free(h->classes);
    free(h->scores);
    free(h->cells);
    measures_release(&h->measures);
}

/* ---- loading ---- */

static int step_of_version(const struct history *h, int64_t version)
{
    for (int t = 0; t < h->steps; t++)
        if (h->chain[t].version == version)
            return t;
    return -1;
}

/* Counts per (after step, of step), from the counts per (version, class). */
static int measure(struct history *h)
{
    size_t cells = (size_t)h->steps * (size_t)h->steps;
    int64_t *total = calloc(cells + 1, sizeof *total);
    int64_t *correct = calloc(cells + 1, sizeof *correct);
    int err = total && correct ? 0 : ERR_NOMEM;
    for (int k = 0; k < h->score_count && !err; k++) {
        const struct class_score *s = &h->scores[k];
        int after = step_of_version(h, s->version);
        int of = s->class_index < h->class_count ? h->classes[s->class_index].step - 1 : -1;
        if (after < 0 || of < 0 || of >= h->steps)
            continue;
        total[after * h->steps + of] += s->total;
        correct[after * h->steps + of] += s->correct;
    }
    if (!err)
        err = measures_compute(&h->measures, h->steps, total, correct);
    free(total);
    free(correct);
    return err;
}

static int history_load(struct history *h, struct db_txn *t)
{
    int err = versions_chain(t, 0, &h->chain, &h->steps);
    if (!err)
        err = classes_of(t, 0, &h->classes, &h->class_count);
    if (!err)
        err = evaluations_chain(t, &h->scores, &h->score_count);
    if (!err && h->steps)
        err = confusion_list(t, h->chain[h->steps - 1].version,
                             h->chain[h->steps - 1].from_snapshot, &h->cells, &h->cell_count);
    return err ? err : measure(h);
}

int history_measures(struct db_txn *t, struct measures *out)
{
    struct history h = {0};
    int err = history_load(&h, t);
    if (!err) {
        *out = h.measures;
        h.measures = (struct measures){0};
    }
    history_release(&h);
    return err;
}

/* ---- JSON ---- */

static json_t *reals_json(const double *values, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, format_real(values[i]));
    return list;
}

static json_t *versions_json(const struct history *h)
{
    json_t *list = json_array();
    for (int t = 0; t < h->steps; t++)
        json_array_append_new(list, json_integer(h->chain[t].version));
    return list;
}

static json_t *weights_json(const struct history *h)
{
    json_t *list = json_array();
    for (int t = 0; t < h->steps; t++)
        json_array_append_new(list, json_string(h->chain[t].from_snapshot ? "snapshot" : "dense"));
    return list;
}

static json_t *matrix_json(const struct history *h)
{
    json_t *rows = json_array();
    for (int t = 0; t < h->steps; t++)
        json_array_append_new(rows, reals_json(h->measures.matrix + t * h->steps, t + 1));
    return rows;
}

static json_t *per_class_json(const struct history *h)
{
    json_t *list = json_array();
    int64_t latest = h->steps ? h->chain[h->steps - 1].version : 0;
    for (int c = 0; c < h->class_count; c++) {
        int64_t total = 0, correct = 0;
        if (h->classes[c].position < 0)
            continue;
        for (int k = 0; k < h->score_count; k++) {
            if (h->scores[k].version == latest && h->scores[k].class_index == c) {
                total = h->scores[k].total;
                correct = h->scores[k].correct;
            }
        }
        json_array_append_new(
            list, json_pack("{s:i, s:s, s:i, s:I, s:I, s:o}", "index",
                            h->classes[c].position, "name",
                            h->classes[c].name, "step", h->classes[c].step, "total",
                            (json_int_t)total, "correct", (json_int_t)correct, "accuracy",
                            total ? json_real((double)correct / (double)total) : json_null()));
    }
    return list;
}

static json_t *confusion_json(const struct history *h)
{
    int n = classes_live(h->classes, h->class_count);
    if (h->steps == 0 || n > CONFUSION_MAX_CLASSES)
        return json_null();
    json_t *names = json_array(), *rows = json_array();
    for (int i = 0; i < h->class_count; i++) {
        if (h->classes[i].position < 0)
            continue;
        json_t *row = json_array();
        json_array_append_new(names, json_string(h->classes[i].name));
        for (int j = 0; j < n; j++)
            json_array_append_new(row, json_integer(0));
        json_array_append_new(rows, row);
    }
    for (int k = 0; k < h->cell_count; k++) {
        const struct confusion_cell *cell = &h->cells[k];
        if (cell->true_class >= h->class_count || cell->predicted_class >= h->class_count)
            continue;
        int row = h->classes[cell->true_class].position;
        int column = h->classes[cell->predicted_class].position;
        json_array_set_new(json_array_get(rows, (size_t)row), (size_t)column,
                           json_integer(cell->count));
    }
    return json_pack("{s:I, s:o, s:o}", "version",
                     (json_int_t)h->chain[h->steps - 1].version, "classes", names, "counts", rows);
}

static json_t *history_json(const struct history *h)
{
    const struct measures *m = &h->measures;
    int earlier = h->steps > 0 ? h->steps - 1 : 0;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "versions",
                     versions_json(h), "weights", weights_json(h), "accuracy_matrix", matrix_json(h), "accuracy",
                     reals_json(m->accuracy, h->steps), "average_incremental",
                     format_real(m->average_incremental), "last", format_real(m->last),
                     "forgetting", reals_json(m->forgetting, earlier), "forgetting_mean",
                     format_real(m->forgetting_mean), "backward_transfer",
                     format_real(m->backward_transfer), "per_class", per_class_json(h),
                     "confusion", confusion_json(h));
}

/* ---- CSV ---- */

static void put_number(FILE *f, double value)
{
    if (isnan(value))
        fputc(',', f);
    else
        fprintf(f, ",%.6f", value);
}

/* A row for each step: accuracy over all, then on the classes of each step; empty: not measured. */
static void write_csv(FILE *f, const struct history *h)
{
    fputs("after_step,version,accuracy", f);
    for (int i = 0; i < h->steps; i++)
        fprintf(f, ",step_%d", i + 1);
    fputs("\r\n", f);
    for (int t = 0; t < h->steps; t++) {
        fprintf(f, "%d,%lld", t + 1, (long long)h->chain[t].version);
        put_number(f, h->measures.accuracy[t]);
        for (int i = 0; i < h->steps; i++)
            put_number(f, h->measures.matrix[t * h->steps + i]);
        fputs("\r\n", f);
    }
}

static void reply_csv(struct request *req, const struct history *h)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f)
        write_csv(f, h);
    if (f && fclose(f) == 0)
        reply_copy(req, 200, "text/csv; charset=utf-8; header=present", text, size);
    else
        reply_json(req, 500, NULL);
    free(text);
}

/* ---- handlers ---- */

void api_history_get(struct request *req)
{
    struct history h = {0};
    const char *format = request_query(req, "format");
    bool csv = format && strcmp(format, "csv") == 0;
    if (format && !csv && strcmp(format, "json") != 0) {
        reply_problem(req, 400, "bad_query", "'format' must be json or csv.");
        return;
    }
    int err = history_load(&h, db_reader(request_app(req)->db));
    if (err)
        reply_problem(req, 500, "internal_error", "The history cannot be read: %s. See the log.",
                      err_str(err));
    else if (csv)
        reply_csv(req, &h);
    else
        reply_json(req, 200, history_json(&h));
    history_release(&h);
}
