/*
 * job_logs.c - GET /api/v1/jobs/{id}/logs: what a job did, line by line.
 */
#include <stdlib.h>

#include "core/err.h"
#include "server/api/api.h"
#include "server/api/format.h"
#include "server/app.h"
#include "server/http/http.h"
#include "server/store/job_logs.h"
#include "server/store/jobs.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 500 };

/* ?after=, an id or 0, and ?limit=. On a bad one replies 400 and returns false. */
static bool read_query(struct request *req, int64_t *after, int64_t *limit)
{
    const char *from = request_query(req, "after"), *most = request_query(req, "limit");
    *after = 0;
    *limit = LIMIT_DEFAULT;
    bool zero = from && from[0] == '0' && from[1] == '\0';
    if (from && !zero && !parse_id(from, after)) {
        reply_problem(req, 400, "bad_query", "'after' must be the id of a line, or 0.");
        return false;
    }
    if (most && (!parse_id(most, limit) || *limit > LIMIT_MAX)) {
        reply_problem(req, 400, "bad_query", "'limit' must be a whole number from 1 to %d.",
                      LIMIT_MAX);
        return false;
    }
    return true;
}

static json_t *lines_json(const struct job_log *lines, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack("{s:I, s:o, s:s, s:s, s:s}", "id", (json_int_t)lines[i].id, "time",
                            format_time(lines[i].created_ms), "level", lines[i].level, "event",
                            lines[i].event, "message", lines[i].message));
    return list;
}

void api_jobs_logs(struct request *req)
{
    struct db_txn *t = db_reader(request_app(req)->db);
    struct job_log *lines;
    struct job j;
    int64_t id, after, limit;
    int count;
    if (!read_query(req, &after, &limit))
        return;
    int err = parse_id(request_param(req, "id"), &id) ? jobs_get(t, id, &j) : ERR_MISSING;
    if (!err) {
        job_release(&j);
        err = job_logs_list(t, id, after, (int)limit, &lines, &count);
    }
    if (err == ERR_MISSING) {
        reply_problem(req, 404, "job_not_found",
                      "There is no job '%.40s'. GET /api/v1/jobs lists them.",
                      request_param(req, "id"));
    } else if (err) {
        reply_store_error(req, "The database said", err);
    } else {
        json_int_t last = count ? lines[count - 1].id : after;
        reply_json(req, 200, json_pack("{s:I, s:o, s:I}", "job", (json_int_t)id, "lines",
                                       lines_json(lines, count), "last", last));
        free(lines);
    }
}
