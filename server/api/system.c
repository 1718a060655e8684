/*
 * system.c - health, the limits in force, and what is embedded: the contract and the pages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"
#include "server/api/format.h"
#include "server/app.h"
#include "server/assets.h"
#include "server/http/etag.h"
#include "server/http/http.h"
#include "server/http/limits.h"

/* Live and ready are one here: the socket listens only after the model is loaded. */
void api_health(struct request *req)
{
    reply_json(req, 200,
               json_pack("{s:s, s:s, s:b, s:b}", "status", "ok", "version", ACCRETED_VERSION,
                         "live", 1, "ready", 1));
}

static json_t *limit_json(const struct limit *l, const struct config *config)
{
    return json_pack("{s:s, s:I, s:s, s:o, s:o, s:o}", "name", l->name, "value",
                     (json_int_t)l->value(config), "unit", l->unit, "status", format_id(l->status),
                     "code", format_text(l->code), "option", format_text(l->option));
}

void api_limits(struct request *req)
{
    json_t *list = json_array();
    for (const struct limit *l = limits; l->name; l++)
        json_array_append_new(list, limit_json(l, &request_app(req)->config));
    reply_json(req, 200, json_pack("{s:o}", "limits", list));
}

static const char *content_type_of(const char *name)
{
    static const struct {
        const char *suffix, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},  {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"}, {".json", "application/json"},
        {".svg", "image/svg+xml"},              {".png", "image/png"},
        {".ico", "image/x-icon"},
    };
    const char *suffix = strrchr(name, '.');
    for (size_t i = 0; suffix && i < sizeof types / sizeof *types; i++) {
        if (strcmp(suffix, types[i].suffix) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

/* Whether Accept-Encoding names gzip and does not rule it out. */
static bool takes_gzip(struct request *req)
{
    const char *accepted = request_header(req, "Accept-Encoding");
    const char *gzip = accepted ? strstr(accepted, "gzip") : NULL;
    return gzip && (strncmp(gzip + 4, ";q=", 3) != 0 || strtod(gzip + 7, NULL) > 0);
}

/* The page takes nothing from elsewhere, and text can become neither script nor markup. */
static void add_page_headers(struct request *req)
{
    reply_header(req, "Content-Security-Policy",
                 "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                 "connect-src 'self'; base-uri 'none'; form-action 'none'; "
                 "frame-ancestors 'none'; require-trusted-types-for 'script'; "
                 "trusted-types 'none'");
    reply_header(req, "Referrer-Policy", "no-referrer");
    reply_header(req, "Cross-Origin-Opener-Policy", "same-origin");
    reply_header(req, "Cross-Origin-Resource-Policy", "same-origin");
    reply_header(req, "Permissions-Policy", "camera=(self), microphone=(), geolocation=()");
}

static void send_asset(struct request *req, const char *name)
{
    const struct asset *asset = assets_find(name);
    if (!asset) {
        reply_problem(req, 404, "not_found", "There is no such page.");
        return;
    }
    bool gzip = takes_gzip(req);
    const void *data = gzip ? asset->gzip : asset->data;
    size_t size_bytes = gzip ? asset->gzip_bytes : asset->size_bytes;
    char etag[ETAG_BYTES];
    etag_make(etag, data, size_bytes);
    reply_header(req, "ETag", etag);
    reply_header(req, "Cache-Control", "no-cache"); /* kept, and asked about: right after upgrades */
    reply_header(req, "Vary", "Accept-Encoding");
    if (gzip)
        reply_header(req, "Content-Encoding", "gzip");
    add_page_headers(req);
    reply_static(req, 200, content_type_of(name), data, size_bytes);
}

void api_page(struct request *req)
{
    send_asset(req, "web/index.html");
}

void api_asset(struct request *req)
{
    char name[600];
    snprintf(name, sizeof name, "web/%s", request_param(req, "file"));
    send_asset(req, name);
}
