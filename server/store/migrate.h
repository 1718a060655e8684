/*
 * migrate.h - brings a database file to the newest of the embedded migrations; private to
 * server/store/.
 */
#ifndef ACCRETED_SERVER_STORE_MIGRATE_H
#define ACCRETED_SERVER_STORE_MIGRATE_H

struct db_txn;

enum { DB_APPLICATION_ID = 0x41434352 /* "ACCR" */ };

/* Runs every migration the file has not seen, all in one transaction: it is at the newest version
 * afterwards or unchanged. Errors: ERR_FORMAT (of another program, or of a newer accreted), ERR_IO,
 * ERR_NOMEM, ERR_NOSPACE. */
int migrate(struct db_txn *t);

#endif
