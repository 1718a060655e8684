/*
 * sql.h - the small layer over SQLite that the files of server/store/ share; private to them.
 *
 * A db_txn is a connection: on the db thread the writing one inside a transaction, on the loop the
 * reading one. It belongs to that thread alone. Errors of SQLite are logged here once, with their
 * statement, and come out as enum err: a broken constraint is ERR_INVALID and silent, for callers
 * expect it.
 */
#ifndef ACCRETED_SERVER_STORE_SQL_H
#define ACCRETED_SERVER_STORE_SQL_H

#include <math.h>
#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "server/store/db.h"

struct db_txn {
    sqlite3 *sqlite;
};

/* A value to bind; made by the functions below, so that types cannot slip. */
struct sql_value {
    enum { SQL_NULL, SQL_INT, SQL_REAL, SQL_TEXT } type;
    int64_t integer;
    double real;
    const char *text; /* borrowed until the statement is finalised */
};

static inline struct sql_value sql_int(int64_t v)
{
    return (struct sql_value){.type = SQL_INT, .integer = v};
}

/* 0 is stored as NULL. */
static inline struct sql_value sql_int_or_null(int64_t v)
{
    return (struct sql_value){.type = v ? SQL_INT : SQL_NULL, .integer = v};
}

/* NaN is stored as NULL. */
static inline struct sql_value sql_real(double v)
{
    return (struct sql_value){.type = isnan(v) ? SQL_NULL : SQL_REAL, .real = v};
}

/* NULL is stored as NULL. */
static inline struct sql_value sql_text(const char *v)
{
    return (struct sql_value){.type = v ? SQL_TEXT : SQL_NULL, .text = v};
}

/* The values of a statement's ?1, ?2, ... : sql_run(t, "...", SQL(sql_int(id), sql_text(name))). */
#define SQL(...)                                                                                   \
    (const struct sql_value[]){__VA_ARGS__},                                                       \
        (int)(sizeof((struct sql_value[]){__VA_ARGS__}) / sizeof(struct sql_value))
#define SQL_NONE NULL, 0

/* Maps a result code, and logs it unless a constraint was broken. `what` names the statement. */
int sql_error(struct db_txn *t, int code, const char *what);

/* Statements without results; may hold several. */
int sql_exec(struct db_txn *t, const char *script);
/* One statement, run to its end. */
int sql_run(struct db_txn *t, const char *statement, const struct sql_value *values, int count);
/* The same, and exactly one row must have changed: else ERR_MISSING. */
int sql_run_one(struct db_txn *t, const char *statement, const struct sql_value *values,
                int count);

/* Prepares and binds; the caller finalises *out with sqlite3_finalize. */
int sql_query(struct db_txn *t, sqlite3_stmt **out, const char *statement,
              const struct sql_value *values, int count);
/* 1: a row is there; 0: no more; negative: error. */
int sql_step(struct db_txn *t, sqlite3_stmt *s);
/* First column of the first row: ERR_MISSING without a row. NULL is 0. */
int sql_get_int(struct db_txn *t, int64_t *out, const char *statement,
                const struct sql_value *values, int count);
/* Runs a query and hands each row to `read`, into an array of `size`-byte elements that is the
 * caller's to free. */
int sql_read_rows(struct db_txn *t, const char *statement, const struct sql_value *values,
                  int value_count, size_t size, void (*read)(sqlite3_stmt *s, void *element),
                  void **out, int *count);
int64_t sql_last_id(struct db_txn *t);

/* Columns. Text is copied, cut to the buffer, "" for NULL; a NULL real is NaN. */
void sql_column_text(sqlite3_stmt *s, int column, char *out, size_t out_bytes);
double sql_column_real(sqlite3_stmt *s, int column);
/* Copy on the heap; NULL stays NULL. Errors: ERR_NOMEM. */
int sql_column_copy(sqlite3_stmt *s, int column, char **out);

#endif
