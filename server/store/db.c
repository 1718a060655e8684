/*
 * db.c - the two connections and the db thread.
 *
 *   any thread -- db_write --> posted list
 *   db thread     takes it, BEGIN, write, COMMIT, appends it to the done list, uv_async_send
 *   loop          drains the done list
 *
 * Invariants: the writing connection is used by the db thread alone once it runs, the reading one
 * by the loop. Both lists are guarded by `lock`. uv_async_send coalesces, so the loop drains the
 * whole done list each time.
 */
#include "server/store/db.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/log.h"
#include "server/store/migrate.h"
#include "server/store/sql.h"

struct write {
    db_write_fn write;
    db_done_fn done;
    void *ctx;
    int status;
    bool waited, finished; /* waited: somebody blocks on it and owns it */
    struct write *next;
};

struct write_list {
    struct write *head, **tail;
};

struct db {
    struct db_txn writer, reader;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something was posted or finished, or `stopping` was set */
    struct write_list posted, done;
    bool stopping, committed; /* committed: since the loop looked last */
    uv_async_t async;
    void (*watch)(void *ctx); /* the loop's; NULL: nobody */
    void *watch_ctx;
};

int64_t db_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- lists ---- */

static void list_init(struct write_list *l)
{
    l->head = NULL;
    l->tail = &l->head;
}

static void list_append(struct write_list *l, struct write *w)
{
    w->next = NULL;
    *l->tail = w;
    l->tail = &w->next;
}

static struct write *list_take(struct write_list *l)
{
    struct write *w = l->head;
    if (w) {
        l->head = w->next;
        if (!l->head)
            l->tail = &l->head;
    }
    return w;
}

/* ---- the db thread ---- */

static int run_write(struct db *db, const struct write *w)
{
    int err = sql_exec(&db->writer, "BEGIN IMMEDIATE");
    if (err)
        return err;
    err = w->write(&db->writer, w->ctx);
    if (!err)
        err = sql_exec(&db->writer, "COMMIT");
    /* A failed statement may have rolled back by itself already. */
    if (err && !sqlite3_get_autocommit(db->writer.sqlite))
        sql_exec(&db->writer, "ROLLBACK");
    return err;
}

static void *db_thread(void *ctx)
{
    struct db *db = ctx;
    pthread_mutex_lock(&db->lock);
    for (;;) {
        struct write *w = list_take(&db->posted);
        if (!w && db->stopping)
            break;
        if (!w) {
            pthread_cond_wait(&db->changed, &db->lock);
            continue;
        }
        pthread_mutex_unlock(&db->lock);
        int status = run_write(db, w);
        pthread_mutex_lock(&db->lock);
        w->status = status;
        w->finished = true;
        db->committed |= status == 0;
        if (w->waited)
            pthread_cond_broadcast(&db->changed);
        else
            list_append(&db->done, w);
        uv_async_send(&db->async);
    }
    pthread_mutex_unlock(&db->lock);
    return NULL;
}

/* ---- the loop ---- */

static void drain_done(struct db *db)
{
    for (;;) {
        pthread_mutex_lock(&db->lock);
        struct write *w = list_take(&db->done);
        pthread_mutex_unlock(&db->lock);
        if (!w)
            return;
        if (w->done)
            w->done(w->ctx, w->status);
        free(w);
    }
}

static void on_async(uv_async_t *async)
{
    struct db *db = async->data;
    pthread_mutex_lock(&db->lock);
    bool committed = db->committed;
    db->committed = false;
    pthread_mutex_unlock(&db->lock);
    drain_done(db);
    if (committed && db->watch)
        db->watch(db->watch_ctx);
}

void db_watch(struct db *db, void (*committed)(void *ctx), void *ctx)
{
    db->watch = committed;
    db->watch_ctx = ctx;
}

int db_write(struct db *db, db_write_fn write, db_done_fn done, void *ctx)
{
    struct write *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_NOMEM;
    *w = (struct write){.write = write, .done = done, .ctx = ctx};
    pthread_mutex_lock(&db->lock);
    list_append(&db->posted, w);
    pthread_cond_broadcast(&db->changed);
    pthread_mutex_unlock(&db->lock);
    return 0;
}

int db_write_wait(struct db *db, db_write_fn write, void *ctx)
{
    struct write w = {.write = write, .ctx = ctx, .waited = true};
    pthread_mutex_lock(&db->lock);
    list_append(&db->posted, &w);
    pthread_cond_broadcast(&db->changed);
    while (!w.finished)
        pthread_cond_wait(&db->changed, &db->lock);
    pthread_mutex_unlock(&db->lock);
    return w.status;
}

struct db_txn *db_reader(struct db *db)
{
    return &db->reader;
}

/* ---- opening and closing ---- */

static int connection_open(struct db_txn *t, const char *path, int flags)
{
    int code = sqlite3_open_v2(path, &t->sqlite, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        return t->sqlite ? sql_error(t, code, path) : ERR_NOMEM;
    sqlite3_extended_result_codes(t->sqlite, 1);
    sqlite3_db_config(t->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_busy_timeout(t->sqlite, 5000);
    return sql_exec(t, "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
                       "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;");
}

static int quick_check(struct db_txn *t)
{
    sqlite3_stmt *s;
    char verdict[256] = "";
    int err = sql_query(t, &s, "PRAGMA quick_check(1)", SQL_NONE);
    if (err)
        return err;
    err = sql_step(t, s);
    if (err > 0)
        sql_column_text(s, 0, verdict, sizeof verdict);
    sqlite3_finalize(s);
    if (err < 0)
        return err;
    if (strcmp(verdict, "ok") != 0) {
        log_error("database: damaged: %s", verdict);
        return ERR_CORRUPT;
    }
    return 0;
}

static int open_connections(struct db *db, const char *data_dir)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/accreted.db", data_dir);
    int err = connection_open(&db->writer, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (!err)
        err = quick_check(&db->writer);
    if (!err)
        err = sql_exec(&db->writer, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    if (!err)
        err = migrate(&db->writer);
    if (!err)
        err = connection_open(&db->reader, path, SQLITE_OPEN_READONLY);
    return err;
}

/* The reader first: the last connection to close checkpoints, and only the writer may. */
static void close_connections(struct db *db)
{
    sqlite3_close(db->reader.sqlite);
    sqlite3_close(db->writer.sqlite);
}

static void db_free(struct db *db)
{
    pthread_cond_destroy(&db->changed);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

static void on_async_closed(uv_handle_t *handle)
{
    db_free(handle->data);
}

int db_open(struct db **out, uv_loop_t *loop, const char *data_dir)
{
    struct db *db = calloc(1, sizeof *db);
    if (!db)
        return ERR_NOMEM;
    list_init(&db->posted);
    list_init(&db->done);
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->changed, NULL);

    int err = open_connections(db, data_dir);
    if (err)
        goto out;
    if (uv_async_init(loop, &db->async, on_async) != 0) {
        err = ERR_NOMEM;
        goto out;
    }
    db->async.data = db;
    uv_unref((uv_handle_t *)&db->async); /* waiting for writes is no reason for the loop to live */
    if (pthread_create(&db->thread, NULL, db_thread, db) != 0) {
        close_connections(db);
        uv_close((uv_handle_t *)&db->async, on_async_closed);
        return ERR_NOMEM;
    }
    *out = db;
    return 0;
out:
    close_connections(db);
    db_free(db);
    return err;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    pthread_mutex_lock(&db->lock);
    db->stopping = true;
    pthread_cond_broadcast(&db->changed);
    pthread_mutex_unlock(&db->lock);
    pthread_join(db->thread, NULL);
    drain_done(db);
    close_connections(db);
    uv_close((uv_handle_t *)&db->async, on_async_closed);
}
