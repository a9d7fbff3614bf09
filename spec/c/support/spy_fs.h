/* spy_fs.h - a file system that hands every call on to another one and notes what is read.
 *
 * How to use: spy_fs_new around another one, hand spy_fs_calls to the code under test, ask by file
 * name afterwards. What lies in a header's 4,096 bytes counts apart from the rest.
 * Owns: its notes. Thread: one. */
#ifndef SPEC_SPY_FS_H
#define SPEC_SPY_FS_H

#include <stdint.h>

#include "base/fs.h"

struct spy_fs;

/* Around `inner`, which must live longer. */
struct spy_fs *spy_fs_new(const struct cg_fs *inner);
/* Frees it; NULL is fine. */
void spy_fs_free(struct spy_fs *spy);
/* The calls; valid as long as the spy. */
const struct cg_fs *spy_fs_calls(struct spy_fs *spy);

/* Forgets what was read so far. */
void spy_fs_reset(struct spy_fs *spy);
/* Bytes behind the first 4,096 that were read of files whose name (without directory) begins so. */
uint64_t spy_fs_read_bytes(const struct spy_fs *spy, const char *name);
/* Handles that are open now for files whose name begins so, and the most since the last reset. */
unsigned spy_fs_open_count(const struct spy_fs *spy, const char *name);
unsigned spy_fs_open_max(const struct spy_fs *spy);

#endif
