/*
 * events.h - who listens to GET /api/v1/events, and what wakes them.
 *
 * Loop thread only.
 */
#ifndef ACCRETED_SERVER_API_EVENTS_H
#define ACCRETED_SERVER_API_EVENTS_H

enum { EVENTS_MAX_CLIENTS = 32 };

struct app;
struct events;

/* Watches app's database and queue. Errors: ERR_NOMEM. */
int events_new(struct events **out, struct app *app);
/* After http_stop, before the loop's last run; NULL is fine. */
void events_free(struct events *e);

#endif
