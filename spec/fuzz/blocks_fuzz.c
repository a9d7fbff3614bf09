/* blocks_fuzz.c - any bytes as the blocks and the table of a compressed segment: reading them must
 * not crash.
 *
 * The first four bytes say where the table begins in the rest, which stands behind the header. Each
 * input is tried as it is, and once more with the CRCs of table and blocks made right.
 * The corpus is the compressed golden segment of spec/c/log_format_test.c, whole, cut and changed.
 * Owns: nothing between calls. Thread: one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "log/blocks.h"
#include "support/sim_fs.h"

#define INPUT_BYTES_MAX ((size_t)1 << 20)
#define NONCE 7
#define READ_BYTES 50000

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Makes the CRCs right of the table at `table` and of the blocks that it can reach. */
static void repair(uint8_t *file, size_t size, size_t table) {
  if (size < table + 20)
    return;
  for (size_t at = table + 16; at + 8 <= size; at += 4) {
    size_t block = (size_t)cg_bytes_load_32(file + at) * 8;
    if (block < CG_SEGMENT_HEADER_BYTES || block + 8 > size)
      continue;
    size_t frame_size = cg_bytes_load_32(file + block);
    if (frame_size <= size - block - 8)
      cg_bytes_store_32(file + block + 4, cg_crc32c(NONCE, file + block + 8, frame_size));
  }
  cg_bytes_store_32(file + size - 4, cg_crc32c(NONCE, file + table, size - table - 4));
}

/* Loads the table and reads all blocks. */
static void try_file(const uint8_t *file, size_t size, size_t table_offset) {
  struct sim_fs *sim = sim_fs_new(1);
  const struct cg_fs *fs = sim_fs_calls(sim);
  sim_fs_put(sim, "/file", file, size);
  int handle = fs->open(fs->arg, "/file", CG_FS_READ);
  struct cg_segment_header header = {
      .nonce = NONCE, .segment_bytes = 1 << 20, .table_offset = table_offset};
  struct cg_block_table *table;
  if (cg_block_table_load(&table, fs, handle, &header, size, NULL) == CG_OK) {
    struct cg_block_cache *cache = cg_block_cache_new(2);
    struct cg_block_source source = {fs, handle, &header, table};
    uint8_t *back = cg_alloc(READ_BYTES);
    for (uint64_t at = CG_SEGMENT_HEADER_BYTES; at < table->plain_end; at += READ_BYTES) {
      size_t count;
      enum cg_code code = cg_blocks_read(cache, &source, back, READ_BYTES, at, &count, NULL);
      if (code == CG_OK && count == 0)
        abort(); /* There is something before the end. */
    }
    cg_free(back);
    cg_block_cache_free(cache);
    cg_free(table);
  }
  fs->close(fs->arg, handle);
  sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size < 4 || size > INPUT_BYTES_MAX)
    return 0;
  size_t file_size = CG_SEGMENT_HEADER_BYTES + size - 4;
  size_t table = CG_SEGMENT_HEADER_BYTES + cg_bytes_load_32(bytes) % INPUT_BYTES_MAX;
  uint8_t *file = cg_alloc(file_size);
  memcpy(file + CG_SEGMENT_HEADER_BYTES, bytes + 4, size - 4);
  try_file(file, file_size, table);
  repair(file, file_size, table);
  try_file(file, file_size, table);
  cg_free(file);
  return 0;
}
