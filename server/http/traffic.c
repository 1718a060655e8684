/*
 * traffic.c - what was asked and how it was answered, by route, for /metrics. Loop thread.
 */
#include <stdlib.h>

#include "core/err.h"
#include "server/http/internal.h"

const double traffic_bounds[TRAFFIC_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                0.1,   0.25,   0.5,   1,    2.5,   10};

int traffic_new(struct http *h)
{
    int routes = 0;
    while (h->routes[routes].method)
        routes++;
    h->traffic = calloc((size_t)routes + 1, sizeof *h->traffic);
    if (!h->traffic)
        return ERR_NOMEM;
    h->traffic_count = routes + 1;
    for (int i = 0; i < routes; i++)
        h->traffic[i].route = &h->routes[i];
    return 0;
}

static void note_code(struct traffic *t, int status)
{
    int i = 0;
    while (i < TRAFFIC_CODES - 1 && t->codes[i].status != 0 && t->codes[i].status != status)
        i++;
    t->codes[i].status = status;
    t->codes[i].count++;
}

void traffic_note(struct request *req)
{
    const struct route *route = req->match.route;
    struct http *h = req->http;
    struct traffic *t = &h->traffic[route ? route - h->routes : h->traffic_count - 1];
    if (!req->queued)
        return; /* the client left before there was an answer */
    note_code(t, req->status);
    if (req->connection->state == CONNECTION_STREAMING)
        return; /* as long as the client stays: no duration of ours */
    uint64_t ns = uv_hrtime() - req->began_ns;
    for (int i = 0; i < TRAFFIC_BUCKETS; i++)
        t->buckets[i] += (double)ns <= traffic_bounds[i] * 1e9;
    t->count++;
    t->sum_ns += ns;
}

const struct traffic *http_traffic(const struct http *h, int *count)
{
    *count = h->traffic_count;
    return h->traffic;
}
