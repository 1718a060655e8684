/*
 * routes.h - the one route table.
 */
#ifndef ACCRETED_SERVER_API_ROUTES_H
#define ACCRETED_SERVER_API_ROUTES_H

#include "server/http/http.h"

/* Every route of the daemon; ends with a zeroed entry. Read-only. */
extern const struct route api_routes[];

#endif
