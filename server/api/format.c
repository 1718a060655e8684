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

#include "server/http/http.h"

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

json_t *format_text(const char *text)
{
    return text && *text ? json_string(text) : json_null();
}

json_t *format_token(int64_t last_id)
{
    char token[32];
    snprintf(token, sizeof token, "p%" PRIx64, (uint64_t)last_id);
    return json_string(token);
}

bool parse_token(const char *token, int64_t *last_id)
{
    if (token[0] != 'p' || strspn(token + 1, "0123456789abcdef") != strlen(token + 1) ||
        strlen(token) < 2 || strlen(token) > 16)
        return false;
    *last_id = (int64_t)strtoull(token + 1, NULL, 16);
    return *last_id > 0;
}

bool parse_id(const char *text, int64_t *id)
{
    size_t length = strlen(text);
    if (length == 0 || length > 18 || strspn(text, "0123456789") != length)
        return false;
    *id = strtoll(text, NULL, 10);
    return *id > 0;
}

bool format_page(struct request *req, int64_t *before_id, int *limit)
{
    const char *token = request_query(req, "page_token");
    const char *wanted = request_query(req, "limit");
    int64_t number = PAGE_DEFAULT;
    *before_id = 0;
    if (wanted && (!parse_id(wanted, &number) || number > PAGE_MAX)) {
        reply_problem(req, 400, "bad_query", "'limit' must be a whole number from 1 to %d.",
                      PAGE_MAX);
        return false;
    }
    if (token && !parse_token(token, before_id)) {
        reply_problem(req, 400, "bad_page_token",
                      "'page_token' must be the next_page_token of an earlier reply.");
        return false;
    }
    *limit = (int)number;
    return true;
}
