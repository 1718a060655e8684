/*
 * tokens.c - /api/v1/tokens: making and revoking bearer tokens; /api/v1/session: the dashboard's
 * sign-in.
 *
 * A token is in one reply only, the one that made it. So these routes take no Idempotency-Key: a
 * stored reply would keep the token.
 */
#include "server/api/api.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/api/format.h"
#include "server/app.h"
#include "server/http/auth.h"
#include "server/http/http.h"
#include "server/log.h"
#include "server/store/tokens.h"

/* A write under way. */
struct change {
    struct request *req;
    struct token token;
    char text[TOKEN_TEXT_BYTES]; /* of a new one */
};

static void change_free(struct change *c)
{
    sodium_memzero(c->text, sizeof c->text);
    free(c);
}

static void reply_failed(struct request *req, int err)
{
    reply_problem(req, 500, "internal_error",
                  "The tokens cannot be read or written: %s. See the log.", err_str(err));
}

/* The body's JSON object; replies 400 or 422 and returns NULL when it is none. */
static json_t *body_object(struct request *req)
{
    size_t size;
    json_error_t error;
    const char *text = request_body(req, &size);
    json_t *body = json_loadb(text ? text : "", size, JSON_REJECT_DUPLICATES, &error);
    if (!body)
        reply_problem(req, 400, "bad_json", "The body is no JSON (line %d, column %d).", error.line,
                      error.column);
    else if (!json_is_object(body))
        reply_problem(req, 422, "bad_field", "The body must be an object.");
    if (json_is_object(body))
        return body;
    json_decref(body);
    return NULL;
}

static json_t *token_json(const struct token *tk)
{
    return json_pack("{s:I, s:s, s:s, s:o}", "id", (json_int_t)tk->id, "name", tk->name, "scope",
                     token_scope_name(tk->admin), "created", format_time(tk->created_ms));
}

/* ---- tokens ---- */

void api_tokens_list(struct request *req)
{
    reply_header(req, "Cache-Control", "no-store");
    struct token *tokens = malloc(TOKENS_MAX * sizeof *tokens);
    int64_t last_id;
    int count = 0, limit;
    if (!format_page(req, &last_id, &limit)) {
        free(tokens);
        return;
    }
    int err = tokens ? tokens_list(db_reader(request_app(req)->db), tokens, &count) : ERR_NOMEM;
    json_t *list = json_array();
    int i = 0;
    while (i < count && tokens[i].id <= last_id)
        i++;
    int end = count - i > limit ? i + limit : count;
    for (; i < end; i++)
        json_array_append_new(list, token_json(&tokens[i]));
    json_t *next = end < count ? format_token(req, tokens[end - 1].id) : json_null();
    free(tokens);
    if (err) {
        json_decref(list);
        json_decref(next);
        reply_failed(req, err);
    } else {
        reply_json(req, 200, json_pack("{s:o, s:o}", "tokens", list, "next_page_token", next));
    }
}

static bool parse_token_fields(struct change *c, json_t *body)
{
    const char *key, *name = "", *scope = NULL;
    json_t *value;
    bool known = true;
    json_object_foreach(body, key, value)
    {
        if (strcmp(key, "name") == 0)
            name = json_string_value(value);
        else if (strcmp(key, "scope") == 0)
            scope = json_string_value(value);
        else
            known = false;
    }
    if (!known || !name || !token_name_is_valid(name) || !scope ||
        !token_scope_parse(scope, &c->token.admin)) {
        reply_problem(c->req, 422, "bad_field",
                      "The fields are 'scope', which is predict or admin, and 'name', up to %d "
                      "printable ASCII characters.",
                      TOKEN_NAME_BYTES - 1);
        return false;
    }
    snprintf(c->token.name, sizeof c->token.name, "%s", name);
    return true;
}

static int write_token(struct db_txn *t, void *ctx)
{
    struct change *c = ctx;
    return tokens_insert(t, &c->token);
}

static void reply_created(struct change *c)
{
    char location[64];
    json_t *body = token_json(&c->token);
    if (body)
        json_object_set_new(body, "token", json_string(c->text));
    snprintf(location, sizeof location, "/api/v1/tokens/%" PRId64, c->token.id);
    reply_header(c->req, "Location", location);
    log_info("token %" PRId64 " \"%s\" of scope %s made", c->token.id, c->token.name,
             token_scope_name(c->token.admin));
    reply_json(c->req, 201, body);
}

static void token_written(void *ctx, int err)
{
    struct change *c = ctx;
    struct app *app = request_app(c->req);
    if (!err)
        err = auth_load(app->auth, db_reader(app->db));
    if (err == ERR_NOSPACE)
        reply_problem(c->req, 409, "too_many_tokens", "There are %d tokens; revoke one first.",
                      TOKENS_MAX);
    else if (err == ERR_INVALID)
        reply_problem(c->req, 409, "admin_token_first",
                      "With this as the first token nobody could administer the daemon; make one of "
                      "scope admin first.");
    else if (err)
        reply_failed(c->req, err);
    else
        reply_created(c);
    change_free(c);
}

void api_tokens_post(struct request *req)
{
    if (request_header(req, "Idempotency-Key")) {
        reply_problem(req, 400, "idempotency_key_not_taken",
                      "A token is never stored, so neither is the reply that shows it. Send this "
                      "without a key; revoke what came of a request whose reply was lost.");
        return;
    }
    json_t *body = body_object(req);
    if (!body)
        return;
    struct change *c = calloc(1, sizeof *c);
    if (!c) {
        json_decref(body);
        reply_json(req, 500, NULL);
        return;
    }
    c->req = req;
    bool good = parse_token_fields(c, body);
    json_decref(body);
    if (!good) {
        change_free(c);
        return;
    }
    token_make(c->text);
    token_hash(c->text, c->token.hash);
    c->token.created_ms = db_now_ms();
    int err = db_write(request_app(req)->db, write_token, token_written, c);
    if (err) {
        reply_failed(req, err);
        change_free(c);
    }
}

static int write_revoked(struct db_txn *t, void *ctx)
{
    struct change *c = ctx;
    return tokens_delete(t, c->token.id, false);
}

static void token_revoked(void *ctx, int err)
{
    struct change *c = ctx;
    struct app *app = request_app(c->req);
    if (!err)
        err = auth_load(app->auth, db_reader(app->db));
    if (err == ERR_MISSING) {
        reply_problem(c->req, 404, "not_found", "There is no such token.");
    } else if (err == ERR_INVALID) {
        reply_problem(c->req, 409, "last_admin_token",
                      "Without this token nobody could administer the daemon; make another of "
                      "scope admin first, or stop the daemon and run `accreted token revoke`.");
    } else if (err) {
        reply_failed(c->req, err);
    } else {
        log_info("token %" PRId64 " revoked", c->token.id);
        reply_json(c->req, 200,
                   json_pack("{s:I, s:b}", "id", (json_int_t)c->token.id, "revoked", 1));
    }
    change_free(c);
}

void api_tokens_delete(struct request *req)
{
    int64_t id;
    if (!parse_id(request_param(req, "id"), &id)) {
        reply_problem(req, 404, "not_found", "There is no such token.");
        return;
    }
    struct change *c = calloc(1, sizeof *c);
    if (!c) {
        reply_json(req, 500, NULL);
        return;
    }
    c->req = req;
    c->token.id = id;
    int err = db_write(request_app(req)->db, write_revoked, token_revoked, c);
    if (err) {
        reply_failed(req, err);
        change_free(c);
    }
}

/* ---- sessions ---- */

static void set_cookie(struct request *req, const char *value, int seconds)
{
    char cookie[TOKEN_TEXT_BYTES + 128];
    const struct config *config = &request_app(req)->config;
    bool tls = config->tls_certificate[0] || config->trusted_proxy[0];
    snprintf(cookie, sizeof cookie, "%s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Strict%s",
             SESSION_COOKIE, value, seconds, tls ? "; Secure" : "");
    reply_header(req, "Set-Cookie", cookie);
}

static json_t *session_json(bool required, const char *scope, int64_t expires_ms)
{
    return json_pack("{s:b, s:o, s:o}", "required", required, "scope", format_text(scope),
                     "expires", format_time(expires_ms));
}

void api_session_post(struct request *req)
{
    struct session session;
    json_t *body = body_object(req);
    if (!body)
        return;
    const char *token = json_string_value(json_object_get(body, "token"));
    if (!token || json_object_size(body) != 1) {
        reply_problem(req, 422, "bad_field", "The only field is 'token', a text.");
    } else if (auth_sign_in(request_app(req)->auth, token, &session) != 0) {
        reply_header(req, "WWW-Authenticate", "Bearer realm=\"accreted\", error=\"invalid_token\"");
        reply_problem(req, 401, "unauthorized", "The token is not known here, or was revoked.");
    } else {
        set_cookie(req, session.id, SESSION_SECONDS);
        reply_json(req, 200,
                   session_json(true, token_scope_name(session.admin), session.expires_ms));
    }
    json_decref(body);
}

void api_session_get(struct request *req)
{
    reply_header(req, "Cache-Control", "no-store");
    const struct identity *who = request_identity(req);
    bool required = auth_required(request_app(req)->auth);
    const char *scope = who->known || who->admin ? token_scope_name(who->admin) : NULL;
    reply_json(req, 200, session_json(required, scope, who->session_expires_ms));
}

void api_session_delete(struct request *req)
{
    const char *id = request_cookie(req, SESSION_COOKIE);
    if (id)
        auth_sign_out(request_app(req)->auth, id);
    set_cookie(req, "", 0);
    reply_json(req, 200, session_json(auth_required(request_app(req)->auth), NULL, 0));
}
