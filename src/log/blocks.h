/* blocks.h - the zstd blocks that the commits of a compressed segment stand in.
 *
 * Behind the segment's header, which is not compressed, stand blocks; each holds CG_BLOCK_BYTES of
 * the segment, the last one the rest. All integers are little-endian. Behind the blocks stands a
 * table, at the header's table offset, and the file ends with it.
 *
 *   Block:
 *     0    4 bytes of the frame
 *     4    4 CRC32C of the frame, salted by the nonce
 *     8      zstd frame; zero padding to a multiple of 8
 *   Table:
 *     0    4 magic "CGT1"
 *     4    4 block count
 *     8    8 plain end: where the segment would end if it were not compressed
 *    16      4 for each block: where it stands in the file, offset / 8
 *   n-4    4 CRC32C of all before, salted by the nonce
 *
 * Offsets and places in a segment are always those of the plain bytes.
 * How to use: reading: load the table of an opened file, then cg_blocks_read through a cache.
 * Writing: cg_block_packer_add for each block in order, cg_block_packer_table.
 * Owns: see the structs. Thread: one at a time. */
#ifndef CG_LOG_BLOCKS_H
#define CG_LOG_BLOCKS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/fs.h"
#include "log/record.h"
#include "log/zstd.h"

#define CG_BLOCK_BYTES ((size_t)64 << 10) /* Plain bytes of a block. */
#define CG_BLOCK_CACHE_SHARED 16          /* Blocks that a log keeps decompressed. */
#define CG_BLOCK_CACHE_OWN 2              /* Blocks that the reader of one segment keeps. */

/* Where the blocks of one file stand. */
struct cg_block_table {
  uint64_t plain_end; /* Where the segment would end if it were not compressed. */
  uint32_t count;     /* Blocks. */
  uint32_t offsets[]; /* Where each stands, / 8; one more: where the last one ends. */
};

struct cg_block_cache;

/* A compressed file to be read. */
struct cg_block_source {
  const struct cg_fs *fs;                 /* How to read. */
  int handle;                             /* The file. */
  const struct cg_segment_header *header; /* Its header. */
  const struct cg_block_table *table;     /* Its table. */
};

/* Reads and checks the table of a file of `file_bytes` bytes; free it with cg_free. CG_ECORRUPT,
 * CG_EIO. */
enum cg_code cg_block_table_load(struct cg_block_table **table, const struct cg_fs *fs, int handle,
                                 const struct cg_segment_header *header, uint64_t file_bytes,
                                 struct cg_err *err);

/* A cache of so many decompressed blocks, of any segments; their memory is taken when needed. */
struct cg_block_cache *cg_block_cache_new(uint32_t slot_count);
/* Frees it; NULL is fine. */
void cg_block_cache_free(struct cg_block_cache *cache);

/* Reads plain bytes at a plain offset. *count is less than `size` at the end, and before a damaged
 * block; CG_ECORRUPT only when `offset` lies in that. CG_EIO. */
enum cg_code cg_blocks_read(struct cg_block_cache *cache, const struct cg_block_source *source,
                            uint8_t *bytes, size_t size, uint64_t offset, size_t *count,
                            struct cg_err *err);

/* Makes the blocks of a new file. */
struct cg_block_packer {
  struct cg_zstd zstd;   /* The library. */
  int level;             /* Of zstd; 0: the default. */
  uint32_t nonce;        /* Of the file. */
  uint64_t offset;       /* Where the next block, or the table, stands. */
  uint64_t plain_end;    /* Plain bytes so far, with the header. */
  struct cg_buf *packed; /* The block made last. */
  struct cg_buf *table;  /* The table so far. */
};

/* Prepares a packer. */
void cg_block_packer_init(struct cg_block_packer *packer, int level, uint32_t nonce);
/* Frees what it has. */
void cg_block_packer_deinit(struct cg_block_packer *packer);
/* Makes packer->packed the next block, of `size` bytes: CG_BLOCK_BYTES, or fewer in the last one.
 * It belongs to the packer->offset of before the call. CG_EIO: no library. */
enum cg_code cg_block_packer_add(struct cg_block_packer *packer, const uint8_t *bytes, size_t size,
                                 struct cg_err *err);
/* Finishes packer->table, which belongs to packer->offset. */
void cg_block_packer_table(struct cg_block_packer *packer);

#endif
