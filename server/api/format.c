/*
 * format.c - see format.h.
 */
#include "server/api/format.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "core/err.h"
#include "server/http/http.h"

enum { TOKEN_BYTES = 40 };

json_t *format_time(int64_t unix_ms)
{
    char text[40];
    struct tm utc;
    time_t seconds = (time_t)(unix_ms / 1000);
    if (unix_ms == 0 || !gmtime_r(&seconds, &utc))
        return json_null();
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, sizeof text - n, ".%03dZ", (int)(unix_ms % 1000));
    return json_string(text);
}

json_t *format_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *format_id(int64_t id)
{
    return id ? json_integer(id) : json_null();
}

json_t *format_stored(const char *json)
{
    json_t *value = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
    return value ? value : json_null();
}

json_t *format_text(const char *text)
{
    return text && *text ? json_string(text) : json_null();
}

/* <id in hex>-<check>. The check tells a token of this list from one that was cut, altered or made
 * for another list. It is no secret: who forges one gets a page that ?limit= would show as well. */
static void make_token(char out[TOKEN_BYTES], struct request *req, int64_t last_id)
{
    char text[600];
    int n = snprintf(text, sizeof text, "page %s %" PRIx64, request_path(req), (uint64_t)last_id);
    n = n < (int)sizeof text ? n : (int)sizeof text - 1;
    snprintf(out, TOKEN_BYTES, "%" PRIx64 "-%016" PRIx64, (uint64_t)last_id,
             (uint64_t)XXH3_64bits(text, (size_t)n));
}

json_t *format_token(struct request *req, int64_t last_id)
{
    char token[TOKEN_BYTES];
    make_token(token, req, last_id);
    return json_string(token);
}

static bool parse_token(struct request *req, const char *token, int64_t *last_id)
{
    char good[TOKEN_BYTES];
    *last_id = (int64_t)strtoull(token, NULL, 16);
    make_token(good, req, *last_id);
    return *last_id > 0 && strcmp(token, good) == 0;
}

bool parse_id(const char *text, int64_t *id)
{
    size_t length = strlen(text);
    if (length == 0 || length > 18 || strspn(text, "0123456789") != length)
        return false;
    *id = strtoll(text, NULL, 10);
    return *id > 0;
}

bool format_page(struct request *req, int64_t *last_id, int *limit)
{
    const char *token = request_query(req, "page_token");
    const char *wanted = request_query(req, "limit");
    int64_t number = PAGE_DEFAULT;
    *last_id = 0;
    if (wanted && (!parse_id(wanted, &number) || number > PAGE_MAX)) {
        reply_problem(req, 400, "bad_query", "'limit' must be a whole number from 1 to %d.",
                      PAGE_MAX);
        return false;
    }
    if (token && !parse_token(req, token, last_id)) {
        reply_problem(req, 400, "bad_page_token",
                      "'page_token' must be the next_page_token that this list gave before.");
        return false;
    }
    *limit = (int)number;
    return true;
}

bool format_dry_run(struct request *req, bool *dry_run)
{
    const char *wanted = request_query(req, "dry_run");
    *dry_run = wanted && strcmp(wanted, "1") == 0;
    if (!wanted || *dry_run || strcmp(wanted, "0") == 0)
        return true;
    reply_problem(req, 400, "bad_query", "dry_run is 1 or 0");
    return false;
}

void reply_store_error(struct request *req, const char *what, int err)
{
    if (err == ERR_NOSPACE)
        reply_problem(req, 507, "disk_full",
                      "The data directory is full. Free some room and retry.");
    else
        reply_problem(req, 500, "internal_error", "%s: %s. See the log.", what, err_str(err));
}
