/*
 * multipart.c - a reader of multipart/form-data: find the boundary, read few headers, hand out
 * ranges.
 *
 * State between calls: `at` stands behind a delimiter, on what tells whether a part or the end
 * follows.
 */
#include "server/decode/multipart.h"

#include <string.h>
#include <strings.h>

#include "core/err.h"

enum { MAX_BOUNDARY = 70, MAX_HEADER_BYTES = 8192 };

static const char form_data[] = "multipart/form-data";

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* RFC 9110's token characters: what names of parameters and headers are made of. */
static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_boundary(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("'()+_,-./:=? ", c) != NULL);
}

/* ---- parameters: `; name=value; name="value"` ---- */

/* Reads a value, quoted or not, at *at into out (NUL-terminated) and moves *at behind it. */
static int read_value(const char **at, const char *end, char *out, size_t out_bytes)
{
    const char *p = *at;
    size_t used = 0;
    bool quoted = p < end && *p == '"';
    p += quoted;
    while (p < end && (quoted ? *p != '"' : is_token(*p) || *p == '/' || *p == ':' || *p == '=')) {
        /* Only what a quoted string must escape is unescaped: Windows paths keep their
         * backslashes. */
        if (quoted && *p == '\\' && p + 1 < end && (p[1] == '"' || p[1] == '\\'))
            p++;
        if (used + 1 >= out_bytes || *p == '\0')
            return ERR_FORMAT;
        out[used++] = *p++;
    }
    if (quoted && p == end)
        return ERR_FORMAT;
    out[used] = '\0';
    *at = p + quoted;
    return 0;
}

/* One parameter; returns 1, 0 at the end, or ERR_FORMAT. */
static int next_parameter(const char **at, const char *end, char *name, size_t name_bytes,
                          char *value, size_t value_bytes)
{
    const char *p = *at;
    while (p < end && is_space(*p))
        p++;
    if (p == end)
        return 0;
    if (*p++ != ';')
        return ERR_FORMAT;
    while (p < end && is_space(*p))
        p++;
    if (p == end)
        return 0;
    size_t used = 0;
    while (p < end && is_token(*p) && used + 1 < name_bytes)
        name[used++] = *p++;
    name[used] = '\0';
    if (used == 0 || p == end || *p++ != '=')
        return ERR_FORMAT;
    int err = read_value(&p, end, value, value_bytes);
    *at = p;
    return err == 0 ? 1 : err;
}

/* ---- the body ---- */

/* The text behind "multipart/form-data", or NULL. */
static const char *after_type(const char *content_type)
{
    size_t type_bytes = sizeof form_data - 1;
    if (!content_type || strncasecmp(content_type, form_data, type_bytes) != 0)
        return NULL;
    const char *rest = content_type + type_bytes;
    return *rest == '\0' || *rest == ';' || is_space(*rest) ? rest : NULL;
}

bool multipart_accepts(const char *content_type)
{
    return after_type(content_type) != NULL;
}

static int find_boundary(const char *content_type, char boundary[MAX_BOUNDARY + 1])
{
    const char *at = after_type(content_type);
    if (!at)
        return ERR_FORMAT;
    const char *end = at + strlen(at);
    bool found = false;
    for (;;) {
        char name[32], value[256];
        int got = next_parameter(&at, end, name, sizeof name, value, sizeof value);
        if (got < 0)
            return got;
        if (got == 0)
            break;
        if (strcasecmp(name, "boundary") != 0)
            continue;
        size_t bytes = strlen(value);
        if (found || bytes == 0 || bytes > MAX_BOUNDARY || value[bytes - 1] == ' ')
            return ERR_FORMAT;
        memcpy(boundary, value, bytes + 1);
        found = true;
    }
    for (const char *c = boundary; found && *c; c++)
        found = is_boundary(*c);
    return found ? 0 : ERR_FORMAT;
}

int multipart_init(struct multipart *m, const char *content_type, struct span body)
{
    char boundary[MAX_BOUNDARY + 1];
    int err = find_boundary(content_type, boundary);
    if (err != 0)
        return err;
    size_t bytes = strlen(boundary);
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary, bytes + 1);
    m->delimiter_bytes = 4 + bytes;
    /* The first delimiter stands at the very start, where it has no CRLF before it. */
    if (body.size_bytes < m->delimiter_bytes - 2 ||
        memcmp(body.data, m->delimiter + 2, m->delimiter_bytes - 2) != 0)
        return ERR_FORMAT;
    m->body = body;
    m->at = body.data + m->delimiter_bytes - 2;
    m->end = body.data + body.size_bytes;
    return 0;
}

/* Content-Disposition: form-data; name="..."; filename="..." */
static int read_disposition(const char *value, const char *end, struct multipart_part *part)
{
    static const char kind[] = "form-data";
    size_t kind_bytes = sizeof kind - 1;
    if ((size_t)(end - value) < kind_bytes || strncasecmp(value, kind, kind_bytes) != 0)
        return ERR_FORMAT;
    const char *at = value + kind_bytes;
    for (;;) {
        char name[32], text[256];
        int got = next_parameter(&at, end, name, sizeof name, text, sizeof text);
        if (got <= 0)
            return got;
        if (strcasecmp(name, "name") == 0) {
            if (part->name[0] != '\0' || strlen(text) >= sizeof part->name)
                return ERR_FORMAT;
            memcpy(part->name, text, strlen(text) + 1);
        } else if (strcasecmp(name, "filename") == 0) {
            memcpy(part->filename, text, strlen(text) + 1);
        }
    }
}

/* One header line without its CRLF. Unknown headers are passed over; an encoded body is not
 * understood. */
static int read_header(const char *line, const char *end, struct multipart_part *part)
{
    const char *colon = line;
    while (colon < end && is_token(*colon))
        colon++;
    if (colon == line || colon == end || *colon != ':')
        return ERR_FORMAT;
    size_t name_bytes = (size_t)(colon - line);
    const char *value = colon + 1;
    while (value < end && is_space(*value))
        value++;
    size_t value_bytes = (size_t)(end - value);
    if (memchr(value, '\0', value_bytes))
        return ERR_FORMAT;
    if (name_bytes == 19 && strncasecmp(line, "Content-Disposition", 19) == 0)
        return read_disposition(value, end, part);
    if (name_bytes == 12 && strncasecmp(line, "Content-Type", 12) == 0) {
        if (value_bytes >= sizeof part->content_type)
            return ERR_FORMAT;
        memcpy(part->content_type, value, value_bytes);
        part->content_type[value_bytes] = '\0';
    }
    if (name_bytes == 25 && strncasecmp(line, "Content-Transfer-Encoding", 25) == 0) {
        bool plain = (value_bytes == 6 && strncasecmp(value, "binary", 6) == 0) ||
                     (value_bytes == 4 && strncasecmp(value, "8bit", 4) == 0) ||
                     (value_bytes == 4 && strncasecmp(value, "7bit", 4) == 0);
        return plain ? 0 : ERR_FORMAT;
    }
    return 0;
}

/* Header lines up to the empty one; m->at then stands on the part's first byte. */
static int read_headers(struct multipart *m, struct multipart_part *part)
{
    const uint8_t *limit = m->end;
    if ((size_t)(limit - m->at) > MAX_HEADER_BYTES)
        limit = m->at + MAX_HEADER_BYTES;
    for (;;) {
        const uint8_t *eol = memmem(m->at, (size_t)(limit - m->at), "\r\n", 2);
        if (!eol)
            return ERR_FORMAT;
        const char *line = (const char *)m->at;
        m->at = eol + 2;
        if ((const char *)eol == line)
            return part->name[0] != '\0' ? 0 : ERR_FORMAT;
        int err = read_header(line, (const char *)eol, part);
        if (err != 0)
            return err;
    }
}

/* The next delimiter from `from` on, or NULL; in steps, which overlap by one that lies across. */
static const uint8_t *find_delimiter(struct multipart *m, const uint8_t *from)
{
    const uint8_t *found = NULL;
    while (!found && !span_stopped(&m->body) &&
           (size_t)(m->end - from) >= m->delimiter_bytes) {
        size_t left = (size_t)(m->end - from);
        size_t bytes = left < SPAN_STEP_BYTES ? left : SPAN_STEP_BYTES;
        span_passed(&m->body, from);
        found = memmem(from, bytes, m->delimiter, m->delimiter_bytes);
        from += bytes - m->delimiter_bytes + 1;
    }
    return found;
}

int multipart_next(struct multipart *m, struct multipart_part *part)
{
    size_t left = (size_t)(m->end - m->at);
    if (left >= 2 && memcmp(m->at, "--", 2) == 0) {
        bool clean = left == 2 || (left == 4 && memcmp(m->at + 2, "\r\n", 2) == 0);
        return clean ? 0 : ERR_FORMAT;
    }
    if (left < 2 || memcmp(m->at, "\r\n", 2) != 0)
        return ERR_FORMAT;
    m->at += 2;
    struct multipart_part found = {0};
    int err = read_headers(m, &found);
    if (err != 0)
        return err;
    const uint8_t *data = m->at;
    /* From two bytes back: an empty part's delimiter begins with the headers' last CRLF. */
    const uint8_t *delimiter = find_delimiter(m, data - 2);
    if (!delimiter)
        return ERR_FORMAT;
    found.data = data;
    found.size_bytes = delimiter < data ? 0 : (size_t)(delimiter - data);
    m->at = delimiter + m->delimiter_bytes;
    *part = found;
    return 1;
}
