/*
 * etag.c - see etag.h.
 */
#include "server/http/etag.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "server/http/http.h"

/* A quote and the 64 bits in hexadecimal that follow it. */
enum { HALF_TAG = 17 };

void etag_make(char out[ETAG_BYTES], const void *data, size_t size_bytes)
{
    XXH128_hash_t hash = XXH3_128bits(data, size_bytes);
    snprintf(out, ETAG_BYTES, "\"%016" PRIx64 "%016" PRIx64 "\"", (uint64_t)hash.high64,
             (uint64_t)hash.low64);
}

/* etag_listed, where the first `compared` characters of a tag tell. */
static bool listed(const char *header, const char *etag, size_t compared, bool weak)
{
    size_t length = strlen(etag);
    const char *p = header + strspn(header, " \t");
    if (strcmp(p, "*") == 0)
        return true;
    while (*p) {
        bool is_weak = strncmp(p, "W/", 2) == 0;
        p += is_weak ? 2 : 0;
        const char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
        if (!end)
            return false; /* no tag: what follows cannot be told apart */
        size_t n = (size_t)(end + 1 - p);
        if ((weak || !is_weak) && n == length && memcmp(p, etag, compared) == 0)
            return true;
        p = end + 1;
        p += strspn(p, " \t,");
    }
    return false;
}

bool etag_listed(const char *header, const char *etag, bool weak)
{
    return listed(header, etag, strlen(etag), weak);
}

bool etag_allows(const char *if_match, json_t *current)
{
    char etag[ETAG_BYTES];
    char *text = if_match ? reply_json_text(current) : NULL;
    json_decref(current);
    if (!if_match)
        return true;
    if (!text)
        return false;
    etag_make(etag, text, strlen(text));
    free(text);
    return etag_listed(if_match, etag, false);
}

void etag_hold(char etag[ETAG_BYTES], const char *held)
{
    char first[HALF_TAG + 1];
    snprintf(first, sizeof first, "\"%016" PRIx64, (uint64_t)XXH3_64bits(held, strlen(held)));
    memcpy(etag, first, HALF_TAG);
}

bool etag_allows_held(const char *if_match, const char *held)
{
    char etag[ETAG_BYTES];
    etag_make(etag, "", 0);
    etag_hold(etag, held);
    return listed(if_match, etag, HALF_TAG, false);
}
