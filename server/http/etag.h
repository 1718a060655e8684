/*
 * etag.h - entity tags: whether a client has what it asks for already, or changes what it has seen.
 *
 * A tag is a hash of the body that a GET answers, so it needs no counter beside the data and stays
 * the same over restarts. reply.c gives one to every GET under /api/v1 and answers If-None-Match
 * with 304. If-Match is for the handlers that change something: the check belongs into the write
 * function, where nobody can come between. Pure functions, any thread.
 *
 *   in the handler            c->if_match = request_header(req, "If-Match");
 *   in the write function     if (!etag_allows(c->if_match, thing_json(&thing))) { c->stale = true;
 *                             return ERR_INVALID; }
 *   in its done callback      if (c->stale) reply_stale(c->req);
 *
 * A thing with figures that move by themselves (a job's progress) would change its tag under every
 * client. Its handler calls reply_hold with what a change is held against (a job's state): the
 * first half of the tag is a hash of that alone, and etag_allows_held compares that half.
 */
#ifndef ACCRETED_SERVER_HTTP_ETAG_H
#define ACCRETED_SERVER_HTTP_ETAG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { ETAG_BYTES = 40 };

/* A strong tag, quotes included. */
void etag_make(char out[ETAG_BYTES], const void *data, size_t size_bytes);

/* Whether `header`, a list of tags or "*", names `etag`. `weak`: W/"x" counts as "x", as it does
 * for If-None-Match and does not for If-Match. */
bool etag_listed(const char *header, const char *etag, bool weak);

/* Whether If-Match (NULL: there was none) lets a resource be changed of which GET answers `current`
 * now. Takes `current`; false without memory for it. */
bool etag_allows(const char *if_match, json_t *current);

/* Makes the first half of `etag` one of `held` alone. */
void etag_hold(char etag[ETAG_BYTES], const char *held);

/* As etag_allows, of a thing whose tags were held against `held`. */
bool etag_allows_held(const char *if_match, const char *held);

#endif
