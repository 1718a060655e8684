/*
 * guard.c - one walk over the headers, then the rules in order.
 */
#include "server/http/guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/http/router.h"

struct facts {
    int hosts, lengths, encodings, origins;
    const char *host, *length, *encoding, *origin;
    size_t bytes; /* of all names and values, with ": " and the line end */
    bool malformed; /* a name that is no token, or a control character in a value */
};

static bool is_token(const char *name)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return *name && name[strspn(name, token)] == '\0';
}

static bool has_control(const char *value)
{
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if ((*p < 0x20 && *p != '\t') || *p == 0x7f)
            return true;
    }
    return false;
}

static void note(const char *name, const char *wanted, const char *value, int *count,
                 const char **first)
{
    if (strcasecmp(name, wanted) != 0)
        return;
    if ((*count)++ == 0)
        *first = value ? value : "";
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    (void)kind;
    struct facts *f = cls;
    f->bytes += strlen(name) + (value ? strlen(value) : 0) + 4;
    f->malformed |= !is_token(name) || (value && has_control(value));
    note(name, "Host", value, &f->hosts, &f->host);
    note(name, "Content-Length", value, &f->lengths, &f->length);
    note(name, "Transfer-Encoding", value, &f->encodings, &f->encoding);
    note(name, "Origin", value, &f->origins, &f->origin);
    return MHD_YES;
}

static enum MHD_Result on_argument(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    (void)name;
    char decoded[GUARD_URI_BYTES + 1];
    bool *bad = cls;
    *bad |= value && !percent_decode(decoded, sizeof decoded, value, strlen(value));
    return MHD_YES;
}

/* Splits "name", "name:port" or "[v6]:port" and copies the name. False: not of that form. */
static bool host_name(const char *host, char *out, size_t out_bytes)
{
    bool bracket = *host == '[';
    size_t n = bracket ? strcspn(++host, "]") : strcspn(host, ":");
    const char *rest = host + n;
    if (bracket && *rest++ != ']')
        return false;
    if (*rest == ':')
        rest += 1 + strspn(rest + 1, "0123456789");
    if (*rest || n == 0 || n >= out_bytes)
        return false;
    memcpy(out, host, n);
    out[n] = '\0';
    return true;
}

/* Whether `names`, a comma between, holds `name`. */
static bool is_listed(const char *names, const char *name)
{
    size_t length = strlen(name);
    while (*names) {
        names += strspn(names, ", ");
        size_t n = strcspn(names, ", ");
        if (n > 0 && n == length && strncasecmp(names, name, n) == 0)
            return true;
        names += n;
    }
    return false;
}

/* DNS rebinding needs a name: who is reached from elsewhere may be called by any address. */
static bool host_allowed(const char *host, const struct config *config)
{
    char name[64];
    struct in_addr v4;
    struct in6_addr v6;
    if (!host_name(host, name, sizeof name))
        return false;
    if (strcasecmp(name, "localhost") == 0 || strcasecmp(name, config->listen) == 0 ||
        is_listed(config->host_names, name))
        return true;
    bool any = !config_is_loopback(config->listen);
    if (inet_pton(AF_INET, name, &v4) == 1)
        return any || ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, name, &v6) == 1 && (any || IN6_IS_ADDR_LOOPBACK(&v6));
}

/* A browser names the page that sends; only our own pages may change anything. */
static bool origin_allowed(const struct facts *f, const char *method, const struct config *config)
{
    bool tls = config->tls_certificate[0], proxy = config->trusted_proxy[0];
    if (f->origins == 0 || strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        return true;
    if (f->origins != 1)
        return false;
    if ((tls || proxy) && strncmp(f->origin, "https://", 8) == 0)
        return strcasecmp(f->origin + 8, f->host) == 0;
    return !tls && strncmp(f->origin, "http://", 7) == 0 &&
           strcasecmp(f->origin + 7, f->host) == 0;
}

/* ---- the head as it was sent ---- */

/*
 * libmicrohttpd 0.9.75 does not tell how lines ended, but it splits the head in place: a colon
 * behind a name becomes a zero, and so does each byte of a line's end. The strings it hands out lie
 * in that buffer, and it tells the head's length. So where each string starts one CRLF behind the
 * one before, and the last ends one empty line before the head's end, the head was sent as RFC 9112
 * has it: no LF alone, no line folded into the next, no NUL (but one right before an LF, which
 * looks as CRLF does and, like it, ends the line here).
 */
struct head {
    const char *at, *end;
    bool strict;
};

static bool pass_line_end(struct head *h)
{
    bool crlf = h->end - h->at >= 2 && h->at[0] == '\0' && h->at[1] == '\0';
    h->at += crlf ? 2 : 0;
    return crlf;
}

static enum MHD_Result on_line(void *cls, enum MHD_ValueKind kind, const char *name,
                               const char *value)
{
    (void)kind;
    struct head *h = cls;
    h->strict = h->strict && name == h->at;
    if (!h->strict)
        return MHD_NO;
    const char *text = name + strlen(name) + 1;
    text += strspn(text, " \t");
    h->at = value + strlen(value);
    h->strict = text == value && pass_line_end(h);
    return MHD_YES;
}

static bool head_is_strict(struct MHD_Connection *mhd, const struct guard_request *req)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (!info || req->method + strlen(req->method) + 1 != req->uri ||
        req->uri + req->uri_bytes + 1 != req->version)
        return false;
    struct head h = {.at = req->version + strlen(req->version),
                     .end = req->method + info->header_size};
    h.strict = pass_line_end(&h);
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, on_line, &h);
    return h.strict && pass_line_end(&h) && h.at == h.end;
}

/* Later versions split otherwise, and refuse all this by themselves from 1.0.0 on. */
static bool head_can_be_checked(void)
{
    return strcmp(MHD_get_version(), "0.9.75") == 0;
}

/* ---- the rules ---- */

static void refuse(struct guard_verdict *out, int status, const char *code, const char *detail)
{
    if (out->status)
        return; /* the first reason stands */
    out->status = status;
    out->code = code;
    out->detail = detail;
}

static void check_framing(const struct facts *f, const char *version, struct guard_verdict *out)
{
    if (f->encodings && f->lengths)
        refuse(out, 400, "bad_framing",
               "Content-Length and Transfer-Encoding exclude each other; send one of them.");
    if (f->lengths > 1)
        refuse(out, 400, "bad_framing", "More than one Content-Length; send one.");
    if (f->encodings > 1 || (f->encodings && strcasecmp(f->encoding, "chunked") != 0))
        refuse(out, 501, "bad_framing",
               "The only Transfer-Encoding understood is `chunked`, given once.");
    if (f->encodings && strcmp(version, "HTTP/1.1") != 0)
        refuse(out, 400, "bad_framing", "Transfer-Encoding needs HTTP/1.1.");
}

static void check_names(const struct facts *f, const struct guard_request *req,
                        struct guard_verdict *out)
{
    if (f->hosts != 1)
        refuse(out, 400, "bad_host", "A request needs exactly one Host header.");
    else if (!host_allowed(f->host, req->config))
        refuse(out, 421, "host_not_allowed",
               "This daemon does not answer to this name. Use localhost or its address; the option "
               "host-names adds names.");
    else if (!origin_allowed(f, req->method, req->config))
        refuse(out, 403, "origin_not_allowed",
               "A page from another origin may not change anything here.");
}

void guard_check(struct MHD_Connection *mhd, const struct guard_request *req,
                 struct guard_verdict *out)
{
    struct facts f = {0};
    bool bad_argument = false;
    *out = (struct guard_verdict){.content_length = UINT64_MAX};
    if (head_can_be_checked() && !head_is_strict(mhd, req))
        refuse(out, 400, "bad_framing",
               "Every line of a request's head ends with CRLF and stands alone, without NUL.");
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, on_header, &f);
    check_framing(&f, req->version, out);
    if (f.malformed)
        refuse(out, 400, "bad_header",
               "A header name is no token, or a header value holds a control character.");
    if (f.bytes > GUARD_HEADER_BYTES)
        refuse(out, 431, "headers_too_large", "The headers are longer than 16384 bytes.");
    check_names(&f, req, out);
    if (req->uri_bytes > GUARD_URI_BYTES) {
        refuse(out, 414, "uri_too_long", "The request target is longer than 8192 bytes.");
    } else {
        MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, on_argument, &bad_argument);
        if (bad_argument)
            refuse(out, 400, "bad_query", "The query holds a malformed percent-encoding.");
    }
    if (f.lengths == 1)
        out->content_length = strtoull(f.length, NULL, 10);
    out->chunked = f.encodings > 0;
    out->has_body = f.encodings > 0 || f.lengths > 1 || (f.lengths == 1 && out->content_length > 0);
}
