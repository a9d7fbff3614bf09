/* model_sql.h - the SQLite side of read models: does one job at a time. Private to model.c.
 *
 *   table catga_checkpoints     projection, version, position, serving
 *   table "<projection>@<version>"   key, doc (JSON)
 *   table catga_skipped         events that a version has passed over
 *   view  "<projection>"        key, doc of the version that serves, for people
 * In a database of one version alone, beside the tables of its scripts:
 *   view  documents             key, doc
 *
 * Owns: the connection and its prepared statements. Thread: the model's worker thread. */
#ifndef CG_STORE_MODEL_SQL_H
#define CG_STORE_MODEL_SQL_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "store/model.h"

struct cg_model_sql;

/* Opens or makes the database `path`; NULL: in memory. `is_reader`: it must be there. A QUERY is
 * broken off when *is_ending becomes true; keeps the pointer. Errors: CG_EIO, CG_EPERM, CG_EFULL,
 * CG_EBUSY; CG_ECORRUPT; CG_EINVAL written by a newer version. */
enum cg_code cg_model_sql_open(struct cg_model_sql **sql, const char *path, bool is_reader,
                               const atomic_bool *is_ending, struct cg_err *err);
/* Closes; NULL is fine. */
void cg_model_sql_close(struct cg_model_sql *sql);
/* Does the job and sets its results, code and err. */
void cg_model_sql_run(struct cg_model_sql *sql, struct cg_model_job *job);
/* Has a job left a transaction open? NULL: no. */
bool cg_model_sql_is_open(const struct cg_model_sql *sql);
/* Sets the error from what SQLite says last about the database with this name. */
enum cg_code cg_model_sql_fail(sqlite3 *db, const char *name, const char *what, struct cg_err *err);

#endif
