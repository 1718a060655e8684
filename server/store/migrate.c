/*
 * migrate.c - see migrate.h. Start-up only, on the writing connection before the db thread runs.
 *
 * migrations/NNNN_what.sql, numbered from 1 without gaps; user_version holds the last one that ran.
 * They only go forward: a file of a newer accreted is refused rather than guessed at.
 */
#include "server/store/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/app.h"
#include "server/assets.h"
#include "server/log.h"
#include "server/store/sql.h"

#define MIGRATIONS "migrations/"

/* The number in "migrations/0001_init.sql"; 0 for any other asset. */
static int migration_number(const struct asset *a)
{
    if (strncmp(a->name, MIGRATIONS, sizeof MIGRATIONS - 1) != 0)
        return 0;
    return (int)strtol(a->name + sizeof MIGRATIONS - 1, NULL, 10);
}

static int newest_migration(void)
{
    int newest = 0;
    for (int i = 0; i < asset_count; i++) {
        int number = migration_number(&assets[i]);
        newest = number > newest ? number : newest;
    }
    return newest;
}

/* Is it ours, or empty, and not from the future? */
static int check_origin(struct db_txn *t, int64_t *version)
{
    int64_t application, tables;
    int err = sql_get_int(t, &application, "PRAGMA application_id", SQL_NONE);
    if (!err)
        err = sql_get_int(t, version, "PRAGMA user_version", SQL_NONE);
    if (!err)
        err = sql_get_int(t, &tables, "SELECT count(*) FROM sqlite_master", SQL_NONE);
    if (err)
        return err;
    if (application != DB_APPLICATION_ID && (application != 0 || tables != 0)) {
        log_error("database: the file is not an accreted database");
        return ERR_FORMAT;
    }
    if (*version > newest_migration()) {
        log_error("database: made by a newer accreted (schema %lld, known here: %d): "
                  "install that version again",
                  (long long)*version, newest_migration());
        return ERR_FORMAT;
    }
    return 0;
}

static int apply(struct db_txn *t, const struct asset *migration, int number)
{
    char pragma[64];
    int err = sql_exec(t, (const char *)migration->data);
    if (err)
        return err;
    err = sql_run(t, "INSERT INTO db_upgrades (version, applied_ms, accreted) VALUES (?1, ?2, ?3)",
                  SQL(sql_int(number), sql_int(db_now_ms()), sql_text(ACCRETED_VERSION)));
    if (err)
        return err;
    snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d", number);
    err = sql_exec(t, pragma);
    if (!err)
        log_info("database: %s applied", migration->name);
    return err;
}

int migrate(struct db_txn *t)
{
    int64_t version;
    char pragma[64];
    int err = check_origin(t, &version);
    if (err || version == newest_migration())
        return err;

    err = sql_exec(t, "BEGIN EXCLUSIVE");
    if (err)
        return err;
    snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d", DB_APPLICATION_ID);
    err = sql_exec(t, pragma);
    for (int i = 0; i < asset_count && !err; i++) { /* sorted by name, so by number */
        int number = migration_number(&assets[i]);
        if (number > version)
            err = apply(t, &assets[i], number);
    }
    if (!err)
        err = sql_exec(t, "COMMIT");
    if (err)
        sql_exec(t, "ROLLBACK");
    return err;
}
