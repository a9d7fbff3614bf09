/* model_find.h - a FIND job as one SQL query. Private to model_sql.c.
 *
 * Owns: nothing. Thread: the model's worker thread. */
#ifndef CG_STORE_MODEL_FIND_H
#define CG_STORE_MODEL_FIND_H

#include <sqlite3.h>

#include "store/model.h"

/* Prepares the query over the table with the quoted name `table`, its parameters bound; they point
 * into the job. Returns SQLite's status; SQLITE_OK: the caller finalizes the statement. */
int cg_model_find_prepare(sqlite3 *db, const struct cg_model_job *job, const char *table,
                          sqlite3_stmt **statement);

#endif
