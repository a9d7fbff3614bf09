/* blocks.c - the zstd blocks that the commits of a compressed segment stand in.
 *
 * Owns: see blocks.h. Thread: one at a time. */
#include "log/blocks.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "base/mem.h"

#define TABLE_MAGIC "CGT1"
#define TABLE_HEAD_BYTES 16 /* Before the offsets. */
#define TABLE_CRC_BYTES 4   /* Behind them. */
#define BLOCK_HEAD_BYTES 8  /* Before the frame. */

/* A block that was decompressed. */
struct slot {
  uint64_t number; /* Its segment. */
  uint32_t nonce;  /* And file. */
  uint32_t index;  /* Of the block. */
  uint64_t used;   /* When it was read last; 0: the slot is empty. */
  size_t size;     /* Plain bytes. */
  uint8_t *bytes;  /* They; NULL until needed. */
};

/* The blocks read last. */
struct cg_block_cache {
  struct cg_zstd zstd;   /* The library. */
  struct cg_buf *packed; /* What is decompressed. */
  uint64_t tick;         /* Counts reads. */
  uint32_t slot_count;   /* How many slots. */
  struct slot slots[];   /* They. */
};

/* --- the table --- */

/* How many blocks hold the plain bytes up to `plain_end`. */
static uint64_t block_count(uint64_t plain_end) {
  return (plain_end - CG_SEGMENT_HEADER_BYTES + CG_BLOCK_BYTES - 1) / CG_BLOCK_BYTES;
}

/* Whether the offsets of a table follow on one another. */
static bool are_ordered(const struct cg_block_table *table) {
  if (table->offsets[0] != CG_SEGMENT_HEADER_BYTES / 8)
    return false;
  for (uint32_t index = 0; index < table->count; index++)
    if (table->offsets[index + 1] <= table->offsets[index])
      return false;
  return true;
}

/* Reads what a table's bytes, the CRC of which is right, say. */
static enum cg_code decode_table(struct cg_block_table **table, const uint8_t *bytes, size_t size,
                                 const struct cg_segment_header *header, struct cg_err *err) {
  uint32_t count = cg_bytes_load_32(bytes + 4);
  uint64_t plain_end = cg_bytes_load_64(bytes + 8);
  if (plain_end < CG_SEGMENT_HEADER_BYTES || plain_end > header->segment_bytes ||
      count != block_count(plain_end) ||
      size != TABLE_HEAD_BYTES + (size_t)count * 4 + TABLE_CRC_BYTES)
    return cg_err_set(err, CG_ECORRUPT, "table of blocks: sizes do not fit");
  struct cg_block_table *read = cg_alloc(sizeof(*read) + ((size_t)count + 1) * sizeof(uint32_t));
  read->plain_end = plain_end;
  read->count = count;
  for (uint32_t index = 0; index < count; index++)
    read->offsets[index] = cg_bytes_load_32(bytes + TABLE_HEAD_BYTES + (size_t)index * 4);
  read->offsets[count] = (uint32_t)(header->table_offset / 8);
  if (!are_ordered(read)) {
    cg_free(read);
    return cg_err_set(err, CG_ECORRUPT, "table of blocks: offsets do not follow on one another");
  }
  *table = read;
  return CG_OK;
}

enum cg_code cg_block_table_load(struct cg_block_table **table, const struct cg_fs *fs, int handle,
                                 const struct cg_segment_header *header, uint64_t file_bytes,
                                 struct cg_err *err) {
  /* The capacity of the segment bounds the table, so a wrong file size cannot ask for much. */
  uint64_t size_max = TABLE_HEAD_BYTES + block_count(header->segment_bytes) * 4 + TABLE_CRC_BYTES;
  uint64_t size = file_bytes < header->table_offset ? 0 : file_bytes - header->table_offset;
  if (size < TABLE_HEAD_BYTES + TABLE_CRC_BYTES || size > size_max)
    return cg_err_set(err, CG_ECORRUPT,
                      "table of blocks: %" PRIu64 " bytes at offset %" PRIu64 " of the file", size,
                      header->table_offset);
  uint8_t *bytes = cg_alloc(size);
  int64_t count = cg_io_read(fs, handle, bytes, size, header->table_offset);
  enum cg_code code;
  size_t crc_offset = size - TABLE_CRC_BYTES;
  if (count < 0)
    code = cg_err_set(err, CG_EIO, "read the table of blocks: %s", strerror((int)-count));
  else if ((uint64_t)count != size || memcmp(bytes, TABLE_MAGIC, 4) != 0 ||
           cg_bytes_load_32(bytes + crc_offset) != cg_crc32c(header->nonce, bytes, crc_offset))
    code = cg_err_set(err, CG_ECORRUPT, "table of blocks: wrong magic or CRC");
  else
    code = decode_table(table, bytes, size, header, err);
  cg_free(bytes);
  return code;
}

/* --- reading --- */

struct cg_block_cache *cg_block_cache_new(uint32_t slot_count) {
  assert(slot_count > 0);
  struct cg_block_cache *cache = cg_alloc(sizeof(*cache) + slot_count * sizeof(struct slot));
  cache->slot_count = slot_count;
  return cache;
}

void cg_block_cache_free(struct cg_block_cache *cache) {
  if (!cache)
    return;
  for (uint32_t index = 0; index < cache->slot_count; index++)
    cg_free(cache->slots[index].bytes);
  cg_buf_unref(cache->packed);
  cg_zstd_close(&cache->zstd);
  cg_free(cache);
}

/* Checks a block as it stands in the file. */
static enum cg_code check_block(const uint8_t *block, size_t size, uint32_t nonce, uint32_t index,
                                struct cg_err *err) {
  uint64_t frame_size = cg_bytes_load_32(block);
  bool is_right =
      BLOCK_HEAD_BYTES + frame_size <= size && size - BLOCK_HEAD_BYTES - frame_size < 8 &&
      cg_bytes_load_32(block + 4) == cg_crc32c(nonce, block + BLOCK_HEAD_BYTES, frame_size);
  for (size_t at = BLOCK_HEAD_BYTES + frame_size; is_right && at < size; at++)
    is_right = block[at] == 0;
  return is_right ? CG_OK : cg_err_set(err, CG_ECORRUPT, "block %u is damaged", index);
}

/* Reads block `index` of the file into a slot. */
static enum cg_code fill_slot(struct cg_block_cache *cache, const struct cg_block_source *source,
                              uint32_t index, struct slot *slot, struct cg_err *err) {
  const struct cg_block_table *table = source->table;
  uint64_t offset = (uint64_t)table->offsets[index] * 8;
  size_t packed_size = (size_t)((uint64_t)table->offsets[index + 1] * 8 - offset);
  if (packed_size > BLOCK_HEAD_BYTES + cg_zstd_bound(CG_BLOCK_BYTES) + 7)
    return cg_err_set(err, CG_ECORRUPT, "block %u is too large: %zu bytes", index, packed_size);
  if (!cache->packed)
    cache->packed = cg_buf_take(NULL, BLOCK_HEAD_BYTES + cg_zstd_bound(CG_BLOCK_BYTES) + 8);
  if (!slot->bytes)
    slot->bytes = cg_alloc(CG_BLOCK_BYTES);
  uint8_t *packed = cache->packed->data;
  int64_t count = cg_io_read(source->fs, source->handle, packed, packed_size, offset);
  if (count < 0)
    return cg_err_set(err, CG_EIO, "read block %u: %s", index, strerror((int)-count));
  if ((size_t)count != packed_size)
    return cg_err_set(err, CG_ECORRUPT, "block %u is cut short", index);
  enum cg_code code = check_block(packed, packed_size, source->header->nonce, index, err);
  if (code != CG_OK)
    return code;
  uint64_t begin = CG_SEGMENT_HEADER_BYTES + (uint64_t)index * CG_BLOCK_BYTES;
  uint64_t left = table->plain_end - begin;
  slot->size = left < CG_BLOCK_BYTES ? (size_t)left : CG_BLOCK_BYTES;
  code = cg_zstd_decompress(&cache->zstd, packed + BLOCK_HEAD_BYTES, cg_bytes_load_32(packed),
                            slot->bytes, slot->size, err);
  return code == CG_OK ? CG_OK : (cg_err_prefix(err, "block %u", index), code);
}

/* Finds a block in the cache, or puts it there in place of the one not used for longest. */
static enum cg_code get_block(struct cg_block_cache *cache, const struct cg_block_source *source,
                              uint32_t index, const struct slot **found, struct cg_err *err) {
  const struct cg_segment_header *header = source->header;
  struct slot *slot = &cache->slots[0];
  for (uint32_t at = 0; at < cache->slot_count; at++) {
    struct slot *other = &cache->slots[at];
    if (other->used > 0 && other->index == index && other->number == header->number &&
        other->nonce == header->nonce) {
      other->used = ++cache->tick;
      *found = other;
      return CG_OK;
    }
    if (other->used < slot->used)
      slot = other;
  }
  slot->used = 0;
  enum cg_code code = fill_slot(cache, source, index, slot, err);
  if (code != CG_OK)
    return code;
  slot->number = header->number;
  slot->nonce = header->nonce;
  slot->index = index;
  slot->used = ++cache->tick;
  *found = slot;
  return CG_OK;
}

enum cg_code cg_blocks_read(struct cg_block_cache *cache, const struct cg_block_source *source,
                            uint8_t *bytes, size_t size, uint64_t offset, size_t *count,
                            struct cg_err *err) {
  *count = 0;
  while (*count < size && offset >= CG_SEGMENT_HEADER_BYTES && offset < source->table->plain_end) {
    uint64_t index = (offset - CG_SEGMENT_HEADER_BYTES) / CG_BLOCK_BYTES;
    size_t begin = (offset - CG_SEGMENT_HEADER_BYTES) % CG_BLOCK_BYTES;
    const struct slot *slot;
    enum cg_code code = get_block(cache, source, (uint32_t)index, &slot, err);
    if (code == CG_ECORRUPT && *count > 0)
      return CG_OK; /* What is before it can be read. */
    if (code != CG_OK)
      return code;
    size_t part = slot->size - begin < size - *count ? slot->size - begin : size - *count;
    memcpy(bytes + *count, slot->bytes + begin, part);
    *count += part;
    offset += part;
  }
  return CG_OK;
}

/* --- writing --- */

void cg_block_packer_init(struct cg_block_packer *packer, int level, uint32_t nonce) {
  *packer = (struct cg_block_packer){
      .level = level,
      .nonce = nonce,
      .offset = CG_SEGMENT_HEADER_BYTES,
      .plain_end = CG_SEGMENT_HEADER_BYTES,
      .packed = cg_buf_take(NULL, BLOCK_HEAD_BYTES + cg_zstd_bound(CG_BLOCK_BYTES) + 8),
      .table = cg_buf_take(NULL, 1024),
  };
  memset(cg_buf_room(packer->table, TABLE_HEAD_BYTES), 0, TABLE_HEAD_BYTES);
  packer->table->size = TABLE_HEAD_BYTES;
}

void cg_block_packer_deinit(struct cg_block_packer *packer) {
  cg_buf_unref(packer->packed);
  cg_buf_unref(packer->table);
  cg_zstd_close(&packer->zstd);
}

enum cg_code cg_block_packer_add(struct cg_block_packer *packer, const uint8_t *bytes, size_t size,
                                 struct cg_err *err) {
  assert(size > 0 && size <= CG_BLOCK_BYTES);
  uint8_t *packed = packer->packed->data;
  size_t frame_size;
  enum cg_code code = cg_zstd_compress(&packer->zstd, packer->level, bytes, size,
                                       packed + BLOCK_HEAD_BYTES, &frame_size, err);
  if (code != CG_OK)
    return code;
  size_t end = BLOCK_HEAD_BYTES + frame_size;
  packer->packed->size = (end + 7) & ~(size_t)7;
  memset(packed + end, 0, packer->packed->size - end);
  cg_bytes_store_32(packed, (uint32_t)frame_size);
  cg_bytes_store_32(packed + 4, cg_crc32c(packer->nonce, packed + BLOCK_HEAD_BYTES, frame_size));

  cg_bytes_store_32(cg_buf_room(packer->table, 4), (uint32_t)(packer->offset / 8));
  packer->table->size += 4;
  packer->offset += packer->packed->size;
  packer->plain_end += size;
  return CG_OK;
}

void cg_block_packer_table(struct cg_block_packer *packer) {
  struct cg_buf *table = packer->table;
  uint32_t count = (uint32_t)((table->size - TABLE_HEAD_BYTES) / 4);
  memcpy(table->data, TABLE_MAGIC, 4);
  cg_bytes_store_32(table->data + 4, count);
  cg_bytes_store_64(table->data + 8, packer->plain_end);
  cg_bytes_store_32(cg_buf_room(table, TABLE_CRC_BYTES),
                    cg_crc32c(packer->nonce, table->data, table->size));
  table->size += TABLE_CRC_BYTES;
}
