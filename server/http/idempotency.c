/*
 * idempotency.c - Idempotency-Key on the POSTs that change what is stored: those of scope admin.
 *
 *   handle --> fingerprint (pool) --> claim (db) --fresh--> the handler --> keep (db) --> sent
 *                                        \--seen before--> replay, 409 or 422
 *
 * The key is claimed before the handler runs and its reply is durable before it is sent. Only a
 * success is kept: a refusal changed nothing, so the same key may be tried again. A daemon that dies
 * between the handler's commit and the keeping of the reply forgets the key at its next start; the
 * repeated request then meets what the first one left (a batch of this content, or one that a job
 * holds), so it does nothing twice either. Keys belong to the token that sent them.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "server/app.h"
#include "server/http/internal.h"
#include "server/log.h"
#include "server/store/idempotency.h"
#include "server/work.h"

enum { READ_BYTES = 256 << 10, DIGEST_BYTES = 32 };

struct keyed {
    struct request *req;
    struct app *app;
    struct idempotency_key key;
    crypto_generichash_state hash;
    int err; /* of the fingerprint */
    enum idempotency_claim claim;
    struct idempotent_reply reply; /* replayed, or to be kept; status 0: to be forgotten */
};

static void keyed_free(struct keyed *k)
{
    k->req->keyed = NULL;
    idempotent_reply_release(&k->reply);
    free(k);
}

/* ---- the fingerprint ---- */

static void hash_text(crypto_generichash_state *hash, const char *text)
{
    /* with its zero, so that no two lists of texts run together alike */
    crypto_generichash_update(hash, (const unsigned char *)text, strlen(text) + 1);
}

static enum MHD_Result hash_argument(void *cls, enum MHD_ValueKind kind, const char *name,
                                     const char *value)
{
    (void)kind;
    hash_text(cls, name);
    hash_text(cls, value ? value : "");
    return MHD_YES;
}

static void hash_head(struct keyed *k)
{
    struct request *req = k->req;
    const char *type = request_header(req, "Content-Type");
    crypto_generichash_init(&k->hash, NULL, 0, DIGEST_BYTES);
    hash_text(&k->hash, req->path);
    hash_text(&k->hash, type ? type : "");
    MHD_get_connection_values(req->mhd, MHD_GET_ARGUMENT_KIND, hash_argument, &k->hash);
    hash_text(&k->hash, "");
}

static int hash_file(crypto_generichash_state *hash, const char *path, const atomic_bool *stop)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *buffer = malloc(READ_BYTES);
    int err = fd < 0 ? ERR_IO : buffer ? 0 : ERR_NOMEM;
    while (!err) {
        ssize_t n = read(fd, buffer, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || atomic_load(stop)) {
            err = n < 0 ? ERR_IO : n > 0 ? ERR_STOPPED : 0;
            break;
        }
        crypto_generichash_update(hash, buffer, (size_t)n);
    }
    free(buffer);
    if (fd >= 0)
        close(fd);
    return err;
}

static void run_fingerprint(void *ctx)
{
    struct keyed *k = ctx;
    size_t size;
    uint64_t spool_bytes;
    unsigned char digest[DIGEST_BYTES];
    const char *spool = request_spool(k->req, &spool_bytes);
    const void *body = request_body(k->req, &size);
    if (spool)
        k->err = hash_file(&k->hash, spool, &k->app->stopping);
    else if (size > 0)
        crypto_generichash_update(&k->hash, body, size);
    crypto_generichash_final(&k->hash, digest, sizeof digest);
    sodium_bin2hex(k->key.request_hash, sizeof k->key.request_hash, digest, sizeof digest);
}

/* ---- the claim ---- */

static void replay(struct keyed *k)
{
    struct request *req = k->req;
    const char *name;
    json_t *value, *headers = json_loads(k->reply.headers, 0, NULL);
    json_object_foreach(headers, name, value)
        reply_header(req, name, json_string_value(value));
    json_decref(headers);
    reply_header(req, "Idempotency-Replayed", "true");
    reply_copy(req, k->reply.status, k->reply.content_type, k->reply.body, strlen(k->reply.body));
}

static void refuse_claim(struct keyed *k, int err)
{
    struct request *req = k->req;
    if (err == ERR_NOSPACE)
        reply_problem(req, 429, "too_many_idempotency_keys",
                      "%d keys of the last 24 hours are kept (or the disk is full). Send fewer "
                      "requests with a key, or wait.",
                      IDEMPOTENCY_KEYS_MAX);
    else if (err == ERR_NOMEM)
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    else
        reply_problem(req, 500, "internal_error", "The key cannot be stored: %s. See the log.",
                      err_str(err));
}

/* The reply is ready already when the daemon is stopping: only the request is let go. */
static void claimed(void *ctx, int err)
{
    struct keyed *k = ctx;
    struct request *req = k->req;
    if (!err && !req->http->stopping && k->claim == CLAIM_FRESH) {
        req->keyed = k;
        req->match.route->handle(req);
        return;
    }
    if (req->http->stopping) {
        reply_problem(req, 503, "shutting_down", "The daemon is stopping; try again soon.");
    } else if (err) {
        refuse_claim(k, err);
    } else if (k->claim == CLAIM_REPLAY) {
        replay(k);
    } else if (k->claim == CLAIM_IN_FLIGHT) {
        reply_header(req, "Retry-After", "1");
        reply_problem(req, 409, "idempotency_in_flight",
                      "The first request with this Idempotency-Key is still under way.");
    } else {
        reply_problem(req, 422, "idempotency_key_reused",
                      "This Idempotency-Key came with another request before; take a new one.");
    }
    idempotent_reply_release(&k->reply);
    free(k);
}

static int write_claim(struct db_txn *t, void *ctx)
{
    struct keyed *k = ctx;
    return idempotency_claim(t, &k->key, &k->claim, &k->reply);
}

static void fingerprinted(void *ctx)
{
    struct keyed *k = ctx;
    int err = k->err;
    if (!err)
        err = db_write(k->app->db, write_claim, claimed, k);
    if (err)
        claimed(k, err);
}

static bool key_is_valid(const char *key)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < length; i++) {
        if (key[i] < 0x21 || key[i] > 0x7e)
            return false;
    }
    return length > 0 && length < IDEMPOTENCY_KEY_BYTES;
}

bool keyed_begin(struct request *req)
{
    const struct route *route = req->match.route;
    bool changes = strcmp(route->method, "POST") == 0 && route->access == ACCESS_ADMIN;
    const char *key = changes ? request_header(req, "Idempotency-Key") : NULL;
    if (!key)
        return false;
    if (!key_is_valid(key)) {
        reply_problem(req, 400, "bad_idempotency_key",
                      "An Idempotency-Key is 1 to %d printable ASCII characters without spaces.",
                      IDEMPOTENCY_KEY_BYTES - 1);
        return true;
    }
    struct keyed *k = calloc(1, sizeof *k);
    if (k) {
        *k = (struct keyed){.req = req, .app = req->app, .key.owner = req->identity.token};
        memcpy(k->key.key, key, strlen(key) + 1);
        hash_head(k);
    }
    int err = !k ? ERR_NOMEM
              : req->spool ? work_run_upload(req->app->loop, run_fingerprint, fingerprinted, k)
                           : work_run(req->app->loop, run_fingerprint, fingerprinted, k);
    if (err) {
        free(k);
        reply_problem(req, 503, "no_memory", "Out of memory; try again later.");
    }
    return true;
}

/* ---- the reply ---- */

static char *headers_text(const struct request *req)
{
    json_t *headers = json_object();
    for (const struct reply_field *f = req->fields; f; f = f->next)
        json_object_set_new(headers, f->name, json_string(f->value));
    char *text = headers ? json_dumps(headers, JSON_COMPACT) : NULL;
    json_decref(headers);
    return text;
}

void keyed_note(struct request *req, int status, const char *content_type, const void *data,
                size_t size_bytes)
{
    struct keyed *k = req->keyed;
    idempotent_reply_release(&k->reply);
    if (status < 200 || status > 299)
        return;
    k->reply = (struct idempotent_reply){.status = status};
    k->reply.content_type = strdup(content_type ? content_type : "");
    k->reply.headers = headers_text(req);
    k->reply.body = strndup(data ? data : "", size_bytes);
    if (!k->reply.content_type || !k->reply.headers || !k->reply.body) {
        log_warning("%s: no memory to keep the reply of an Idempotency-Key", req->id);
        idempotent_reply_release(&k->reply);
    }
}

static int write_end(struct db_txn *t, void *ctx)
{
    struct keyed *k = ctx;
    return k->reply.status ? idempotency_keep(t, &k->key, &k->reply)
                           : idempotency_drop(t, &k->key);
}

static void ended(void *ctx, int err)
{
    struct keyed *k = ctx;
    struct request *req = k->req;
    if (err)
        log_warning("%s: the reply of an Idempotency-Key was not kept: %s", req->id, err_str(err));
    keyed_free(k);
    reply_settle(req);
}

void keyed_end(struct request *req)
{
    struct keyed *k = req->keyed;
    int err = db_write(k->app->db, write_end, ended, k);
    if (err)
        ended(k, err);
}
