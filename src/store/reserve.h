/* reserve.h - remembers over a restart up to which time ids may have been given out.
 *
 * A file `ids` in the data directory with two slots, at 0 and 4,096, written in turn; the later
 * time holds. A slot is 8 bytes Unix ms, 4 bytes CRC32C of them, 4 zero bytes; all little-endian.
 * The file is derived: when it is damaged or missing, the log's newest id stands in.
 * Owns: the file. Thread: the loop thread. */
#ifndef CG_STORE_RESERVE_H
#define CG_STORE_RESERVE_H

#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

/* The open file. */
struct cg_reserve {
  const struct cg_fs *fs; /* Its files. */
  int handle;             /* -1: closed. */
  uint32_t slot;          /* To write next. */
};

/* Opens or makes the file in `directory`; *until_ms gets what was reserved, or 0. */
enum cg_code cg_reserve_open(struct cg_reserve *reserve, const struct cg_fs *fs,
                             const char *directory, int64_t *until_ms, struct cg_err *err);
/* Stores a reservation durably; a cg_id_reserve_fn with the reserve as `arg`. */
enum cg_code cg_reserve_store(void *reserve, int64_t until_ms, struct cg_err *err);
/* Closes; harmless when closed. */
void cg_reserve_close(struct cg_reserve *reserve);

#endif
