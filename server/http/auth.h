/*
 * auth.h - who asks: tokens and sessions, in memory.
 *
 * While no token exists everyone may do everything: the daemon then listens on loopback alone
 * (main.c sees to it). Once there is one, every route but the open ones needs a token, in
 * `Authorization: Bearer`, in `X-API-Key`, or through the session cookie of the dashboard. A token
 * in a query string is never looked at: it would end up in logs.
 *
 * Only hashes are kept, and they are compared in constant time. Sessions live in memory for 12
 * hours; they end with the daemon, and at once with their token. Loop thread only.
 */
#ifndef ACCRETED_SERVER_HTTP_AUTH_H
#define ACCRETED_SERVER_HTTP_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "server/http/http.h"
#include "server/store/tokens.h"

struct auth;

enum { SESSION_SECONDS = 12 * 3600 };

struct session {
    char id[TOKEN_TEXT_BYTES]; /* the cookie's value */
    bool admin;
    int64_t expires_ms;
};

/* Errors: ERR_NOMEM. */
int auth_new(struct auth **out);
void auth_free(struct auth *a); /* NULL is fine */

/* The tokens as they are in the database now; a session whose token is gone ends. The old ones stay
 * when it fails. */
int auth_load(struct auth *a, struct db_txn *t);
/* Is there a token at all? */
bool auth_required(const struct auth *a);

/* A session for a good token. ERR_MISSING: no such token. */
int auth_sign_in(struct auth *a, const char *token, struct session *out);
void auth_sign_out(struct auth *a, const char *session_id);

/* ---- for request.c ---- */

/* Finds out who asks (request_identity) and whether that is enough for `access`; if not, stores the
 * refusal and returns false. */
bool auth_admit(struct auth *a, struct request *req, enum route_access access);

/* Requests refused since the start: without or with a bad token, and for their scope. */
uint64_t auth_refused(const struct auth *a, int status);

#endif
