/*
 * format.h - how replies write times, numbers and pages. Pure functions.
 */
#ifndef ACCRETED_SERVER_API_FORMAT_H
#define ACCRETED_SERVER_API_FORMAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { PAGE_DEFAULT = 100, PAGE_MAX = 1000 };

/* RFC 3339 in UTC with milliseconds, "2026-03-01T12:00:00.000Z"; 0 is null. New reference. */
json_t *format_time(int64_t unix_ms);
/* null for what is not finite: not measured. New reference. */
json_t *format_real(double value);
/* A number that is null when 0: ids. New reference. */
json_t *format_id(int64_t id);
/* Stored JSON text, or null. New reference. */
json_t *format_stored(const char *json);
/* A text or null. New reference. */
json_t *format_text(const char *text);

/* A whole decimal number from 1 on, as path parameters hold. */
bool parse_id(const char *text, int64_t *id);

struct request;
/* Page tokens are opaque to clients; here they carry the last id (from 1 on) of the page before, of
 * this list alone. New reference. */
json_t *format_token(struct request *req, int64_t last_id);
/* The query parameters limit and page_token; last_id is 0 for the first page. On a bad one replies
 * 400 and returns false. */
bool format_page(struct request *req, int64_t *last_id, int *limit);
/* The query parameter dry_run, 1 or 0. On another value replies 400 and returns false. */
bool format_dry_run(struct request *req, bool *dry_run);
/* A refusal for an error of the store: 507 when the disk is full, else 500, "`what`: the error". */
void reply_store_error(struct request *req, const char *what, int err);

#endif
