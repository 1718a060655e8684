/*
 * db.h - SQLite: one writing connection on a thread of its own, one reading connection on the loop.
 *
 * The only room that knows sqlite3.h. WAL, synchronous=FULL, foreign keys, defensive mode, STRICT
 * tables. Writes and checkpoints happen on the db thread alone, so Debian 12's SQLite never sees
 * two writers (its WAL-reset bug needs them). A write is acknowledged by `done` only after COMMIT.
 */
#ifndef ACCRETED_SERVER_STORE_DB_H
#define ACCRETED_SERVER_STORE_DB_H

#include <stdint.h>
#include <uv.h>

struct db;
struct db_txn; /* a connection, what a write function gets; see the private header sql.h */

/* Opens (or creates) data_dir/accreted.db, migrates it in one transaction, starts the db thread.
 * Blocks; start-up only. Errors: ERR_IO, ERR_NOMEM, ERR_CORRUPT (quick_check), ERR_FORMAT (made by
 * a newer accreted: refused). */
int db_open(struct db **out, uv_loop_t *loop, const char *data_dir);
/* Runs what was posted, calls what is done, then closes; nobody may post any more. Loop thread, at
 * shutdown; the last memory is freed when the loop runs once more. NULL is fine. */
void db_close(struct db *db);

/* A write: `write(txn, ctx)` on the db thread inside BEGIN IMMEDIATE ... COMMIT; a negative return
 * rolls back. Then `done(ctx, status)` on the loop: 0 once durable, else the error. In the order
 * posted. Any thread may post; ERR_NOMEM means nothing was posted. `done` may be NULL. */
typedef int (*db_write_fn)(struct db_txn *txn, void *ctx);
typedef void (*db_done_fn)(void *ctx, int status);
int db_write(struct db *db, db_write_fn write, db_done_fn done, void *ctx);

/* The same, but blocks until durable, for worker threads (never on the loop): returns the status. */
int db_write_wait(struct db *db, db_write_fn write, void *ctx);

/* `committed(ctx)` is called on the loop after commits: once or more for several, after their
 * `done`. One watcher; NULL takes it away. Loop thread. */
void db_watch(struct db *db, void (*committed)(void *ctx), void *ctx);

/* The reading connection, for the functions of server/store/ that take a db_txn and only read. Loop
 * thread. */
struct db_txn *db_reader(struct db *db);

int64_t db_now_ms(void); /* Unix time */

#endif
