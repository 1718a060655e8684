/*
 * sql.c - see sql.h. No state; each call works on the connection it is given.
 */
#include "server/store/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/log.h"

static int map_code(int code)
{
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    case SQLITE_FULL:
        return ERR_NOSPACE;
    case SQLITE_CORRUPT:
        return ERR_CORRUPT;
    case SQLITE_NOTADB:
        return ERR_FORMAT;
    case SQLITE_CONSTRAINT:
        return ERR_INVALID;
    default: /* SQLite's codes, an open set */
        return ERR_IO;
    }
}

int sql_error(struct db_txn *t, int code, const char *what)
{
    int err = map_code(code);
    if (err != ERR_INVALID)
        log_error("database: %s (%d) in: %.200s", sqlite3_errmsg(t->sqlite), code, what);
    else
        log_debug("database: %s in: %.200s", sqlite3_errmsg(t->sqlite), what);
    return err;
}

int sql_exec(struct db_txn *t, const char *script)
{
    int code = sqlite3_exec(t->sqlite, script, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : sql_error(t, code, script);
}

static int bind_value(sqlite3_stmt *s, int position, const struct sql_value *v)
{
    switch (v->type) {
    case SQL_NULL:
        return sqlite3_bind_null(s, position);
    case SQL_INT:
        return sqlite3_bind_int64(s, position, v->integer);
    case SQL_REAL:
        return sqlite3_bind_double(s, position, v->real);
    case SQL_TEXT:
        return sqlite3_bind_text(s, position, v->text, -1, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

int sql_query(struct db_txn *t, sqlite3_stmt **out, const char *statement,
              const struct sql_value *values, int count)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(t->sqlite, statement, -1, &s, NULL);
    for (int i = 0; i < count && code == SQLITE_OK; i++)
        code = bind_value(s, i + 1, &values[i]);
    if (code != SQLITE_OK) {
        int err = sql_error(t, code, statement);
        sqlite3_finalize(s);
        return err;
    }
    *out = s;
    return 0;
}

int sql_step(struct db_txn *t, sqlite3_stmt *s)
{
    int code = sqlite3_step(s);
    if (code == SQLITE_ROW)
        return 1;
    return code == SQLITE_DONE ? 0 : sql_error(t, code, sqlite3_sql(s));
}

int sql_run(struct db_txn *t, const char *statement, const struct sql_value *values, int count)
{
    sqlite3_stmt *s;
    int err = sql_query(t, &s, statement, values, count);
    if (err)
        return err;
    do {
        err = sql_step(t, s);
    } while (err > 0);
    sqlite3_finalize(s);
    return err;
}

int sql_run_one(struct db_txn *t, const char *statement, const struct sql_value *values, int count)
{
    int err = sql_run(t, statement, values, count);
    if (!err && sqlite3_changes(t->sqlite) != 1)
        err = ERR_MISSING;
    return err;
}

int sql_get_int(struct db_txn *t, int64_t *out, const char *statement,
                const struct sql_value *values, int count)
{
    sqlite3_stmt *s;
    int err = sql_query(t, &s, statement, values, count);
    if (err)
        return err;
    err = sql_step(t, s);
    if (err > 0)
        *out = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    if (err < 0)
        return err;
    return err == 0 ? ERR_MISSING : 0;
}

int sql_read_rows(struct db_txn *t, const char *statement, const struct sql_value *values,
                  int value_count, size_t size, void (*read)(sqlite3_stmt *s, void *element),
                  void **out, int *count)
{
    sqlite3_stmt *s;
    char *list = NULL;
    int n = 0, capacity = 0;
    int err = sql_query(t, &s, statement, values, value_count);
    if (err)
        return err;
    while ((err = sql_step(t, s)) > 0) {
        if (n == capacity) {
            capacity = capacity ? 2 * capacity : 32;
            char *more = realloc(list, (size_t)capacity * size);
            if (!more) {
                err = ERR_NOMEM;
                break;
            }
            list = more;
        }
        read(s, list + (size_t)n++ * size);
    }
    sqlite3_finalize(s);
    if (err) {
        free(list);
        return err;
    }
    *out = list;
    *count = n;
    return 0;
}

int64_t sql_last_id(struct db_txn *t)
{
    return sqlite3_last_insert_rowid(t->sqlite);
}

void sql_column_text(sqlite3_stmt *s, int column, char *out, size_t out_bytes)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    snprintf(out, out_bytes, "%s", text ? text : "");
}

double sql_column_real(sqlite3_stmt *s, int column)
{
    if (sqlite3_column_type(s, column) == SQLITE_NULL)
        return NAN;
    return sqlite3_column_double(s, column);
}

int sql_column_copy(sqlite3_stmt *s, int column, char **out)
{
    if (sqlite3_column_type(s, column) == SQLITE_NULL) {
        *out = NULL;
        return 0;
    }
    const char *text = (const char *)sqlite3_column_text(s, column);
    char *copy = text ? strdup(text) : NULL;
    if (!copy)
        return ERR_NOMEM;
    *out = copy;
    return 0;
}
