/* index_verify.h - checks the index files of a closed store against its log. Included by store.h.
 *
 * Owns: nothing after return. Thread: any. */
#ifndef CG_STORE_INDEX_VERIFY_H
#define CG_STORE_INDEX_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

/* A check of the index. Zero fields are fine. */
struct cg_index_verify {
  /* Gets one line for each fault, and for what is no fault but worth a word. */
  void (*report)(void *arg, bool is_fault, const char *line);
  /* Gets how many records of how many have been compared, now and then. May be NULL. */
  void (*progress)(void *arg, uint64_t done_count, uint64_t total_count);
  void *arg;            /* Passed to both. */
  uint64_t table_count; /* Result: tables that were checked. */
  uint64_t entry_count; /* Result: entries that were compared with their record. */
  uint64_t fault_count; /* Result: faults. */
};

/* Checks every table in the folder `index` of the data directory `data`, and every entry of it,
 * against the log, which must be closed and good. A table that is not of this log as it is now is
 * reported and is no fault, as an open builds it again; nor are there any when the folder is
 * missing. CG_OK: no fault; CG_ECORRUPT: faults were found; CG_EIO. */
enum cg_code cg_index_verify(const char *data, const struct cg_fs *fs,
                             struct cg_index_verify *verify, struct cg_err *err);

#endif
