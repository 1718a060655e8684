/*
 * router.c - matching segment by segment. The path is split before it is decoded, so an encoded '/'
 * never makes a segment; and since no value may hold one either, a parameter can be part of a file
 * name.
 */
#include "server/http/router.h"

#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool percent_decode(char *out, size_t out_bytes, const char *in, size_t n)
{
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)in[i];
        if (c == '%') {
            int high = i + 2 < n ? hex_digit(in[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(in[i + 2]) : -1;
            if (low < 0)
                return false;
            c = high * 16 + low;
            i += 2;
        }
        if (c == 0 || length + 1 >= out_bytes)
            return false;
        out[length++] = (char)c;
    }
    out[length] = '\0';
    return true;
}

/* The segment at *path (after its '/'), decoded; *path moves to the next '/' or the end. */
static bool next_segment(const char **path, char *out)
{
    const char *start = *path + 1;
    size_t n = strcspn(start, "/");
    *path = start + n;
    return percent_decode(out, ROUTE_VALUE_BYTES, start, n) && !strchr(out, '/') &&
           strcmp(out, ".") != 0 && strcmp(out, "..") != 0;
}

static bool path_is_sound(const char *path)
{
    char segment[ROUTE_VALUE_BYTES];
    if (*path != '/')
        return false;
    while (*path) {
        if (!next_segment(&path, segment))
            return false;
    }
    return true;
}

/* Whether a sound path fits `pattern`; fills the parameters. */
static bool matches(const char *pattern, const char *path, struct route_match *match)
{
    char segment[ROUTE_VALUE_BYTES];
    match->param_count = 0;
    while (*pattern && *path) {
        size_t n = strcspn(++pattern, "/");
        if (!next_segment(&path, segment))
            return false;
        if (*pattern == '{') {
            struct route_param *param = &match->params[match->param_count];
            if (!*segment || match->param_count == ROUTE_MAX_PARAMS || n >= ROUTE_NAME_BYTES)
                return false;
            snprintf(param->name, sizeof param->name, "%.*s", (int)n - 2, pattern + 1);
            memcpy(param->value, segment, sizeof segment);
            match->param_count++;
        } else if (strlen(segment) != n || memcmp(segment, pattern, n) != 0) {
            return false;
        }
        pattern += n;
    }
    return !*pattern && !*path;
}

static void allow_method(struct route_match *match, const char *method)
{
    size_t used = strlen(match->allow);
    snprintf(match->allow + used, sizeof match->allow - used, "%s%s%s", used ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

enum route_result router_find(const struct route *routes, const char *method, const char *path,
                              struct route_match *match)
{
    *match = (struct route_match){0};
    if (!path_is_sound(path))
        return ROUTE_BAD_PATH;
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (const struct route *r = routes; r->method; r++) {
        if (!matches(r->pattern, path, match))
            continue;
        if (strcmp(r->method, method) == 0) {
            match->route = r;
            return ROUTE_FOUND;
        }
        allow_method(match, r->method);
    }
    return match->allow[0] ? ROUTE_WRONG_METHOD : ROUTE_NOT_FOUND;
}
