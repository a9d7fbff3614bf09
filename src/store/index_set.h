/* index_set.h - what the files of the index share: putting tables in and taking them out.
 *
 * Owns: see index.h. Thread: the loop thread. */
#ifndef CG_STORE_INDEX_SET_H
#define CG_STORE_INDEX_SET_H

#include "store/index.h"

/* Opens a table by its segments; *table is NULL when that fails. */
enum cg_code cg_index_set_open(const struct cg_index *index, uint64_t first_segment,
                               uint64_t last_segment, struct cg_table **table, struct cg_err *err);
/* Replaces `count` tables from `at` on by others and frees them, once the log does not point into
 * them any more. */
void cg_index_set_replace(struct cg_index *index, uint32_t at, uint32_t count,
                          struct cg_table *const *tables, uint32_t table_count);
/* Builds the table of one segment and opens it. */
enum cg_code cg_index_set_build(const struct cg_index *index, const struct cg_log_seal *seal,
                                struct cg_table **table, struct cg_err *err);
/* After the error `err`, see cg_index_rebuild: builds the index-th table again. CG_OK: try again
 * what has failed. */
enum cg_code cg_index_set_mend(struct cg_index *index, uint32_t at, struct cg_err *err);

#endif
