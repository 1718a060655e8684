/*
 * auth.c - see auth.h.
 *
 * Every token and session is looked at for every request, whether one matched already or not: a few
 * hundred comparisons of 64 bytes, and no timing that tells how close a guess was.
 */
#include "server/http/auth.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/err.h"
#include "server/http/internal.h"

enum { MAX_SESSIONS = 256 };

struct stored_session {
    char hash[TOKEN_HASH_BYTES]; /* "" = free */
    int64_t token, expires_ms;
};

struct auth {
    struct token tokens[TOKENS_MAX];
    int token_count;
    struct stored_session sessions[MAX_SESSIONS];
    uint64_t refused_401, refused_403;
};

int auth_new(struct auth **out)
{
    struct auth *a = calloc(1, sizeof *a);
    if (!a)
        return ERR_NOMEM;
    *out = a;
    return 0;
}

void auth_free(struct auth *a)
{
    free(a);
}

static const struct token *token_of_id(const struct auth *a, int64_t id)
{
    for (int i = 0; i < a->token_count; i++) {
        if (a->tokens[i].id == id)
            return &a->tokens[i];
    }
    return NULL;
}

int auth_load(struct auth *a, struct db_txn *t)
{
    struct token *fresh = malloc(sizeof a->tokens);
    if (!fresh)
        return ERR_NOMEM;
    int err = tokens_list(t, fresh, &a->token_count);
    if (!err)
        memcpy(a->tokens, fresh, sizeof a->tokens);
    for (int i = 0; i < MAX_SESSIONS && !err; i++) {
        if (!token_of_id(a, a->sessions[i].token))
            a->sessions[i] = (struct stored_session){0};
    }
    free(fresh);
    return err;
}

bool auth_required(const struct auth *a)
{
    return a->token_count > 0;
}

uint64_t auth_refused(const struct auth *a, int status)
{
    return status == 403 ? a->refused_403 : a->refused_401;
}

/* ---- look-up ---- */

static bool same(const char *hash, const char *other)
{
    return sodium_memcmp(hash, other, TOKEN_HASH_BYTES - 1) == 0;
}

static const struct token *find_token(const struct auth *a, const char *text)
{
    char hash[TOKEN_HASH_BYTES];
    const struct token *found = NULL;
    token_hash(text, hash);
    for (int i = 0; i < a->token_count; i++) {
        if (same(hash, a->tokens[i].hash))
            found = &a->tokens[i];
    }
    return found;
}

static struct stored_session *find_session(struct auth *a, const char *id)
{
    char hash[TOKEN_HASH_BYTES];
    struct stored_session *found = NULL;
    token_hash(id, hash);
    for (int i = 0; i < MAX_SESSIONS; i++) {
        if (same(hash, a->sessions[i].hash))
            found = &a->sessions[i];
    }
    return found && found->expires_ms > db_now_ms() ? found : NULL;
}

/* ---- sessions ---- */

int auth_sign_in(struct auth *a, const char *token, struct session *out)
{
    const struct token *tk = find_token(a, token);
    if (!tk)
        return ERR_MISSING;
    struct stored_session *oldest = &a->sessions[0]; /* a free one expired at 0 */
    for (int i = 1; i < MAX_SESSIONS; i++) {
        if (a->sessions[i].expires_ms < oldest->expires_ms)
            oldest = &a->sessions[i];
    }
    token_make(out->id);
    out->admin = tk->admin;
    out->expires_ms = db_now_ms() + SESSION_SECONDS * 1000;
    token_hash(out->id, oldest->hash);
    oldest->token = tk->id;
    oldest->expires_ms = out->expires_ms;
    return 0;
}

void auth_sign_out(struct auth *a, const char *session_id)
{
    struct stored_session *s = find_session(a, session_id);
    if (s)
        *s = (struct stored_session){0};
}

/* ---- requests ---- */

/* The token in a header, or NULL. What is presented in a header is what counts, good or bad. */
static const char *presented_token(struct request *req, bool *presented)
{
    const char *value = request_header(req, "Authorization");
    *presented = true;
    if (value) {
        bool bearer = strncasecmp(value, "Bearer ", 7) == 0;
        return bearer ? value + 7 + strspn(value + 7, " ") : NULL;
    }
    value = request_header(req, "X-API-Key");
    *presented = value != NULL;
    return value;
}

static void identify(struct auth *a, struct request *req, bool *presented)
{
    const char *text = presented_token(req, presented);
    const struct token *tk = text ? find_token(a, text) : NULL;
    const char *cookie = *presented ? NULL : request_cookie(req, SESSION_COOKIE);
    const struct stored_session *s = cookie ? find_session(a, cookie) : NULL;
    if (s)
        tk = token_of_id(a, s->token);
    if (!tk)
        return;
    req->identity = (struct identity){
        .known = true,
        .admin = tk->admin,
        .token = tk->id,
        .session_expires_ms = s ? s->expires_ms : 0,
    };
}

static void refuse_unknown(struct auth *a, struct request *req, bool presented)
{
    a->refused_401++;
    reply_header(req, "WWW-Authenticate",
                 presented ? "Bearer realm=\"accreted\", error=\"invalid_token\""
                           : "Bearer realm=\"accreted\"");
    reply_problem(req, 401, "unauthorized",
                  presented ? "The token is not known here, or was revoked."
                            : "This needs a token: `Authorization: Bearer TOKEN`.");
}

/* The browser adds the cookie by itself, so a change needs proof that our own page asked for it;
 * the guard has refused every other Origin already. */
static bool may_come_from_elsewhere(struct request *req)
{
    return req->identity.session_expires_ms != 0 && strcmp(req->method, "GET") != 0 &&
           strcmp(req->method, "HEAD") != 0 && !request_header(req, "Origin");
}

bool auth_admit(struct auth *a, struct request *req, enum route_access access)
{
    bool presented = false;
    if (!auth_required(a)) {
        req->identity.admin = true;
        return true;
    }
    identify(a, req, &presented);
    if (access == ACCESS_OPEN)
        return true;
    if (!req->identity.known) {
        refuse_unknown(a, req, presented);
        return false;
    }
    if (may_come_from_elsewhere(req)) {
        a->refused_403++;
        reply_problem(req, 403, "origin_required",
                      "A change through the session cookie needs an Origin header; programs use "
                      "`Authorization: Bearer TOKEN` instead.");
        return false;
    }
    if (access == ACCESS_ADMIN && !req->identity.admin) {
        a->refused_403++;
        reply_header(req, "WWW-Authenticate",
                     "Bearer realm=\"accreted\", error=\"insufficient_scope\", scope=\"admin\"");
        reply_problem(req, 403, "forbidden", "This needs a token of scope admin.");
        return false;
    }
    return true;
}
