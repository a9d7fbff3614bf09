/* derived.h - what the files derived from a log prove about it. Included by store.h.
 *
 * Owns: nothing after return. Thread: any. */
#ifndef CG_STORE_DERIVED_H
#define CG_STORE_DERIVED_H

#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

/* Reads how far the index and the read models in the data directory `data` know the log, which must
 * be closed: *position gets one above the highest position that was durable once, 1 when nothing
 * tells. A log that ends before it has lost records. Files that are missing or damaged tell
 * nothing. CG_ECORRUPT and the like come from the log's headers. */
enum cg_code cg_derived_proven(const char *data, const struct cg_fs *fs, uint64_t *position,
                               struct cg_err *err);
/* The same by the read models alone, without a look at the log or the index. */
uint64_t cg_derived_models(const char *data);

#endif
