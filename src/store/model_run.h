/* model_run.h - SQL statements of projections: those that their handlers make, those that only
 * read, and the program's own. Private to model_sql.c.
 *
 * The reply of a QUERY, in the order of the machine:
 *   u32 columns; for each: u32 size, bytes of its name
 *   then for each row and column: u8 kind (enum cg_model_value), and
 *     INTEGER  i64        REAL  f64        TEXT, BLOB  u32 size, bytes        NULL  nothing
 * A statement in a buffer of statements:
 *   u64 mark, u32 size, bytes of its text, u32 count of values; for each: kind and bytes as above
 *
 * Owns: prepared statements. Thread: the model's worker thread. */
#ifndef CG_STORE_MODEL_RUN_H
#define CG_STORE_MODEL_RUN_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "store/model.h"

struct cg_model_run;

/* For a connection; keeps `db`, `name` (of the file, for errors) and `is_ending`. */
struct cg_model_run *cg_model_run_new(sqlite3 *db, const char *name, const atomic_bool *is_ending);
/* Before the connection is closed. NULL is fine. */
void cg_model_run_free(struct cg_model_run *run);
/* Runs the job's statements as a handler may make them: INSERT, UPDATE, DELETE and SELECT on tables
 * that are not ours. Sets the job's mark when one fails. */
enum cg_code cg_model_run_writes(struct cg_model_run *run, struct cg_model_job *job);
/* Runs the job's statements, whatever they are; rolls back when one fails in a transaction. The
 * rows of the last one are the reply. */
enum cg_code cg_model_run_own(struct cg_model_run *run, struct cg_model_job *job);
/* Runs the job's one statement, which must only read. */
enum cg_code cg_model_run_query(struct cg_model_run *run, struct cg_model_job *job);

#endif
