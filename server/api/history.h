/*
 * history.h - what other parts ask of the accuracy history.
 */
#ifndef ACCRETED_SERVER_API_HISTORY_H
#define ACCRETED_SERVER_API_HISTORY_H

#include "server/api/measures.h"
#include "server/store/db.h"

/* The measures along the active version's chain; release with measures_release. Loop. */
int history_measures(struct db_txn *t, struct measures *out);

#endif
