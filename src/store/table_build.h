/* table_build.h - makes tables: one of a sealed segment, by reading it, and one of several tables,
 * by merging them.
 *
 * How to use: on any thread, with files of its own. Building takes memory for the names and entries
 * of one segment, merging only for buffers.
 * Owns: nothing after return. Thread: any one. */
#ifndef CG_STORE_TABLE_BUILD_H
#define CG_STORE_TABLE_BUILD_H

#include "store/table.h"

#define CG_TABLE_PARTS_MAX 4u /* Tables merged into one. */

/* A part of a merged table: some segments of a table. */
struct cg_table_part {
  struct cg_table *table; /* For this thread alone. */
  uint32_t first_segment; /* Index of the first segment that is taken. */
  uint32_t segment_count; /* How many are taken; may be 0. */
};

/* Reads a sealed segment and writes its table; makes the directory when it is missing.
 * CG_ECORRUPT, CG_ENOTFOUND (the segment), CG_EIO, CG_EFULL, CG_ECANCELLED; CG_EBUSY: somebody
 * removes files of the index meanwhile. */
enum cg_code cg_table_build(const struct cg_table_place *place, const struct cg_log_seal *seal,
                            struct cg_err *err);
/* Writes the table of these parts, whose segments follow on one another. What a stream was last
 * (version, finished or not) is told by the last part whose table knows of it, also when no segment
 * is taken from it. *corrupt, unless NULL, gets the index of the part that is damaged with
 * CG_ECORRUPT. Else as cg_table_build. */
enum cg_code cg_table_merge(const struct cg_table_place *place, const struct cg_table_part *parts,
                            uint32_t part_count, uint32_t *corrupt, struct cg_err *err);

#endif
