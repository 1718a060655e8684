/*
 * app.h - the daemon's parts, wired once in main.c and reachable from every handler.
 *
 * Owned by main.c; lives as long as the loop. Loop thread only, unless a part says otherwise.
 */
#ifndef ACCRETED_SERVER_APP_H
#define ACCRETED_SERVER_APP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/nn/conv.h"
#include "server/config.h"

#define ACCRETED_VERSION "0.1.0"

struct auth;
struct db;
struct events;
struct http;
struct predictor;
struct queue;

struct app {
    uv_loop_t *loop;
    struct config config;
    enum conv_isa isa;    /* the kernels everything runs on */
    struct db *db;
    struct auth *auth; /* tokens and sessions */
    struct http *http;
    struct queue *queue;         /* jobs */
    struct predictor *predictor; /* the model that serves */
    struct events *events;       /* who listens to what happens */
    bool class_changes;          /* one is renamed or retired just now (api/classes.c) */
    uint64_t classes_changed_ns; /* uv_hrtime() when that ended last; 0: never */
    atomic_bool stopping;        /* any thread: whatever takes long is to end unfinished */
    int64_t started_ms;          /* Unix time */
    char *contract;              /* owned; GET /openapi.json as text; NULL until asked for */
};

#endif
