/* zstd.h - libzstd, opened when it is needed first.
 *
 * How to use: a zeroed struct; cg_zstd_compress and cg_zstd_decompress open the library themselves;
 * cg_zstd_close when done. A log without compressed segments never touches it.
 * Owns: the library's handle and its contexts. Thread: one at a time. */
#ifndef CG_LOG_ZSTD_H
#define CG_LOG_ZSTD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CG_ZSTD_LEVEL_DEFAULT 3
#define CG_ZSTD_LEVEL_MAX 19 /* Higher ones need more memory than they are worth here. */

struct cg_zstd_library;

/* A user of the library. All zero: not opened. */
struct cg_zstd {
  struct cg_zstd_library *library; /* Its functions; NULL: not opened yet. */
};

/* Bytes that compressing `size` bytes may take at most. */
size_t cg_zstd_bound(size_t size);
/* Compresses into `packed` (cg_zstd_bound bytes); *packed_size gets the size. CG_EIO: there is no
 * library. */
enum cg_code cg_zstd_compress(struct cg_zstd *zstd, int level, const uint8_t *bytes, size_t size,
                              uint8_t *packed, size_t *packed_size, struct cg_err *err);
/* Decompresses to exactly `size` bytes. CG_ECORRUPT: it is something else; CG_EIO: no library. */
enum cg_code cg_zstd_decompress(struct cg_zstd *zstd, const uint8_t *packed, size_t packed_size,
                                uint8_t *bytes, size_t size, struct cg_err *err);
/* Frees the contexts and closes the library. */
void cg_zstd_close(struct cg_zstd *zstd);

#endif
