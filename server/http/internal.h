/*
 * internal.h - what the files of this room share: the server, its connections, its requests. Loop
 * thread only.
 *
 * A connection (one TCP connection) goes
 *
 *   WAITING --headers--> RECEIVING --whole body--> HANDLING --reply--> SENDING --done--> WAITING
 *                                                        \--stream--> STREAMING --left--> WAITING
 *
 * and a request is freed when all of these hold: libmicrohttpd is done with it, and no handler owes
 * it a reply.
 */
#ifndef ACCRETED_SERVER_HTTP_INTERNAL_H
#define ACCRETED_SERVER_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <uv.h>

#include "server/http/http.h"
#include "server/http/router.h"
#include "server/http/spool.h"

enum {
    REQUEST_ID_BYTES = 24,
    PEER_BYTES = 46,
    MAX_UPLOADS = 16,
    MAX_LINGERING = 64,
    STREAM_CHUNK_BYTES = 4096,
};

enum connection_state {
    CONNECTION_WAITING,   /* for a whole header */
    CONNECTION_RECEIVING, /* a body */
    CONNECTION_HANDLING,  /* the reply is ours to give; no deadline */
    CONNECTION_SENDING,
    CONNECTION_STREAMING, /* a reply without an end; the deadline is for a piece of it */
};

struct connection {
    struct http *http;
    struct connection *prev, *next;
    int fd;
    char peer[PEER_BYTES]; /* address of the client */
    enum connection_state state;
    uint64_t since_ms;     /* loop time when the state began */
    uint64_t receiving_ms; /* time spent waiting for body bytes; suspended time does not count */
    uint64_t received;     /* body bytes */
    uint64_t drain_until_ms; /* 0, or: the body is being thrown away, no longer than this */
    uint64_t send_until_ms;
    const char *uri; /* libmicrohttpd's, until the headers are handled */
    size_t uri_bytes;
    bool suspended;
    bool left;   /* the peer had closed at the last sweep */
    bool linger; /* the reply left body bytes unread */
    struct stream *stream; /* STREAMING; NULL once it is over */
};

struct kept { /* a string that lives as long as its request */
    struct kept *next;
    char text[];
};

struct reply_field {
    struct reply_field *next;
    char *name, *value; /* both behind this struct, in one block */
};

struct request {
    struct http *http;
    struct app *app;
    struct request *prev, *next;
    struct connection *connection;
    struct MHD_Connection *mhd; /* NULL once libmicrohttpd is done with it */
    char id[REQUEST_ID_BYTES];
    char *method, *path;
    struct route_match match;
    struct identity identity;
    uint64_t began_ns; /* when its headers were there */
    bool handled; /* the handler was called */
    bool owed;    /* ... and has not replied yet */
    bool queued;  /* the reply went to libmicrohttpd */
    bool close;   /* close the connection after the reply */
    bool lost;    /* no memory for a reply: just close */
    struct keyed *keyed; /* its reply is to be kept (idempotency.c); NULL: not */

    uint64_t body_limit;
    uint8_t *body; /* BODY_MEMORY */
    size_t body_bytes, body_capacity;
    struct spool *spool; /* BODY_SPOOL */

    struct reply_field *fields; /* of the reply to come */
    const char *limit;          /* its name, for a problem to come; NULL: as the code tells */
    const char *held;           /* what a conditional change is held against (etag.h); NULL: all */
    struct MHD_Response *response;
    int status;
    size_t response_bytes;
    struct kept *kept;
};

struct linger_socket;

struct http {
    struct app *app;
    struct MHD_Daemon *daemon;
    const struct route *routes;
    int listen_fd, port;
    char *certificate, *key; /* owned; PEM; NULL without TLS */
    uv_poll_t poll;      /* libmicrohttpd's epoll descriptor */
    uv_timer_t timer;    /* its next time-out, or a kick */
    uv_timer_t sweeper;  /* our deadlines, once a second */
    bool kicked, stopping;
    struct connection *connections;
    struct request *requests;
    struct linger_socket *lingering;
    int linger_count;
    int uploads;          /* spooled bodies now */
    uint64_t body_memory; /* bytes of bodies in memory now */
    uint32_t id_prefix, id_count;
    struct traffic *traffic; /* of each route, and of none */
    int traffic_count;
};

/* http.c: run libmicrohttpd soon, from the loop, and ask it for its next time-out. */
void http_kick(struct http *h);

/* peer.c: whether a client may connect (libmicrohttpd asks), and its address. */
enum MHD_Result peer_admit(void *cls, const struct sockaddr *address, socklen_t bytes);
void peer_of(struct MHD_Connection *mhd, char out[PEER_BYTES]);

/* connection.c */
void connection_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                       enum MHD_ConnectionNotificationCode code);
struct connection *connection_of(struct MHD_Connection *mhd);
void connection_enter(struct connection *c, enum connection_state state);
void connection_drain(struct connection *c); /* the body is being thrown away from now on */
void connection_send(struct connection *c, size_t reply_bytes);
void connection_stream(struct connection *c); /* the next piece is on its way */
void connections_sweep(struct http *h); /* cuts what is over its deadline */

/* linger.c: after an early reply, reads on for a while so that the client gets to see it (closing
 * with unread bytes would reset the connection and take the reply with it). */
void linger_start(struct http *h, int fd); /* duplicates fd */
void linger_stop_all(struct http *h);

/* request.c: libmicrohttpd's callbacks, and the end of a request. */
enum MHD_Result request_access(void *cls, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **con_cls);
void request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                       enum MHD_RequestTerminationCode toe);
void request_resume(struct request *req);
/* Frees the request when libmicrohttpd is done with it and no handler owes it a reply. */
void request_finish(struct request *req);
/* At http_stop: answers what is deferred with 503 and resumes what is suspended. */
void request_shut(struct request *req);

/* traffic.c. traffic_note: before the connection forgets what it was doing. Errors: ERR_NOMEM. */
int traffic_new(struct http *h);
void traffic_note(struct request *req);

/* body.c: collecting what comes. body_begin may store a reply. */
void body_begin(struct request *req, bool announced, uint64_t content_length);
/* Returns the bytes taken; fewer than n: suspend. */
size_t body_feed(struct request *req, const char *data, size_t n);
/* True when the body is whole (or failed, with a reply stored); false: suspend. */
bool body_finish(struct request *req);
void body_release(struct request *req);

/* idempotency.c. keyed_begin: true when it has taken the request over, which then gets its handler
 * called, or its reply, later. While req->keyed is set, each reply is noted, and keyed_end takes the
 * place of reply_settle. */
bool keyed_begin(struct request *req);
void keyed_note(struct request *req, int status, const char *content_type, const void *data,
                size_t size_bytes);
void keyed_end(struct request *req);

/* reply.c */
/* The handler owes no reply any more; the connection goes on. */
void reply_settle(struct request *req);
/* A refusal by this room itself, as against by a handler: leaves `owed` alone. */
void reply_refuse(struct request *req, int status, const char *code, const char *detail);
/* A handler's reply, of a response made elsewhere; takes it. */
void reply_response(struct request *req, int status, const char *content_type,
                    struct MHD_Response *response);
/* Queues the stored reply. */
enum MHD_Result reply_queue(struct request *req);
void reply_release(struct request *req);

/* stream.c */
void stream_end(struct stream *s);    /* the client left */
void stream_detach(struct stream *s); /* its request is about to be freed */

#endif
