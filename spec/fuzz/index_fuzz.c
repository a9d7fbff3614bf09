/* index_fuzz.c - any bytes as a table of the index: opening, finding, walking and merging must not
 * crash.
 *
 * Each input is tried as it is, and once more with every CRC made right, so that what lies behind
 * the CRCs is reached too. A table that can be read whole can be merged, and the merged one read.
 * The corpus was made by spec/fuzz/make_log_corpus.c from a real store.
 * Owns: nothing between calls. Thread: one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "store/table_build.h"
#include "support/sim_fs.h"

#define INPUT_BYTES_MAX ((size_t)1 << 20)
#define ENTRIES_MAX 100000u /* Looked at in one stream. */
#define PATH "/index/table-0000000000-0000000000.idx"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

/* A copy with every CRC right, cut or filled up to the size that its header asks for; NULL when the
 * header makes no sense. */
static uint8_t *repair(const uint8_t *bytes, size_t size, uint64_t *copy_size) {
  struct cg_table_header header;
  struct cg_table_layout layout;
  if (size < sizeof(header))
    return NULL;
  memcpy(&header, bytes, sizeof(header));
  header.magic = CG_TABLE_MAGIC;
  header.version = CG_TABLE_VERSION;
  header.file_bytes = 0;
  if (!cg_table_lay_out(&header, &layout) || layout.end > INPUT_BYTES_MAX)
    return NULL;
  *copy_size = header.file_bytes = layout.end;
  uint8_t *copy = cg_alloc(layout.end);
  memcpy(copy, bytes, size < layout.end ? size : layout.end);
  for (uint64_t page = 1; page <= layout.check_count; page++) {
    uint32_t crc = cg_table_page_crc(page, copy + page * CG_TABLE_PAGE_BYTES);
    memcpy(copy + layout.checks + (page - 1) * 4, &crc, sizeof(crc));
  }
  header.checks_crc = cg_crc32c(0, copy + layout.checks, layout.check_count * 4);
  header.crc = cg_crc32c(0, &header, offsetof(struct cg_table_header, crc));
  memcpy(copy, &header, sizeof(header));
  return copy;
}

/* Reads one stream; false when it is damaged. */
static bool read_stream(struct cg_table *table, uint32_t place, uint64_t *sum) {
  struct cg_table_stream stream;
  const char *name;
  uint32_t found;
  if (cg_table_stream(table, place, &stream, &name, NULL) != CG_OK)
    return false;
  *sum += cg_crc32c(0, name, stream.name_size);
  if (cg_table_seek(table, name, stream.name_size, &found, NULL) == CG_OK)
    require(found <= table->header.stream_count);
  uint32_t hash = cg_table_hash(table->hash_seed, name, stream.name_size);
  if (cg_table_find(table, hash, name, stream.name_size, &found, NULL) == CG_OK)
    require(found < table->header.stream_count);
  cg_table_find(table, stream.hash ^ 1, name, stream.name_size, &found, NULL);
  uint64_t from = stream.first_version + stream.entry_count / 2;
  if (cg_table_seek_version(table, &stream, from, &found, NULL) == CG_OK)
    require(found <= stream.entry_count);
  for (uint32_t at = 0; at < stream.entry_count && at < ENTRIES_MAX; at++) {
    struct cg_table_entry entry;
    if (cg_table_entry(table, &stream, at, &entry, NULL) != CG_OK)
      return false;
    require(entry.position < table->header.end_position);
  }
  return true;
}

/* Reads what the table has; false when it is damaged. */
static bool read_table(struct cg_table *table) {
  uint64_t sum = 0;
  const uint32_t *places;
  bool is_well = true;
  for (uint32_t place = 0; is_well && place < table->header.stream_count; place++)
    is_well = read_stream(table, place, &sum);
  is_well = cg_table_opened(table, &places, NULL) == CG_OK && is_well;
  is_well = cg_table_closed(table, &places, NULL) == CG_OK && is_well;
  for (uint32_t at = 0; at < table->header.segment_count; at++) {
    const struct cg_log_waypoint *waypoints;
    const struct cg_table_segment *segment = &table->segments[at];
    if (cg_table_waypoints(table, segment, &waypoints, NULL) != CG_OK)
      is_well = false;
    else if (segment->waypoint_count > 0)
      sum += cg_crc32c(0, waypoints, segment->waypoint_count * sizeof(waypoints[0]));
  }
  return is_well && sum != 1; /* What was read must not be left out by the compiler. */
}

/* Merges the table with nothing, which must give the same; a damaged one may not come through. */
static void merge_table(const struct cg_fs *fs, struct cg_table *table) {
  struct cg_table_place place = {.fs = fs, .directory = "/index", .temporary = ".tmp"};
  memcpy(place.log_id, table->header.log_id, sizeof(place.log_id));
  struct cg_table_part part = {.table = table, .segment_count = table->header.segment_count};
  uint32_t corrupt;
  struct cg_err err;
  enum cg_code code = cg_table_merge(&place, &part, 1, &corrupt, &err);
  require(code == CG_OK || code == CG_ECORRUPT || code == CG_ELIMIT);
  if (code != CG_OK)
    return;
  char name[CG_TABLE_NAME_BYTES], path[128] = "/index/";
  cg_table_name(name, table->header.first_segment, cg_table_last_segment(table));
  strcat(path, name);
  struct cg_table *merged;
  require(cg_table_open(&merged, fs, path, &err) == CG_OK);
  cg_table_free(merged);
}

static void try_bytes(const uint8_t *bytes, size_t size) {
  struct sim_fs *sim = sim_fs_new(1);
  sim_fs_put_directory(sim, "/index");
  sim_fs_put(sim, PATH, bytes, size);
  struct cg_table *table;
  if (cg_table_open(&table, sim_fs_calls(sim), PATH, NULL) == CG_OK) {
    read_table(table);
    merge_table(sim_fs_calls(sim), table);
    cg_table_free(table);
  }
  sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size > INPUT_BYTES_MAX)
    return 0;
  try_bytes(bytes, size);
  uint64_t copy_size;
  uint8_t *copy = repair(bytes, size, &copy_size);
  if (copy != NULL)
    try_bytes(copy, copy_size);
  cg_free(copy);
  return 0;
}
