/* index_set.c - how tables come into the index and leave it.
 *
 * A table's file is removed only after its successors are durable. The log has pointers to the
 * waypoints in tables: it gets those of the new tables before the old ones are unmapped.
 * Owns: see index.h. Thread: the loop thread. */
#include "store/index_set.h"

#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"

#define MERGE_FACTOR CG_TABLE_PARTS_MAX /* Tables of one level that make one of the next. */

enum cg_code cg_index_set_open(const struct cg_index *index, uint64_t first_segment,
                               uint64_t last_segment, struct cg_table **table, struct cg_err *err) {
  char *path = cg_table_path(index->place.directory, first_segment, last_segment, "");
  *table = NULL;
  enum cg_code code = cg_table_open(table, index->place.fs, path, err);
  cg_free(path);
  if (code == CG_OK && ((*table)->header.first_segment != first_segment ||
                        cg_table_last_segment(*table) != last_segment)) {
    cg_table_free(*table);
    *table = NULL;
    code = cg_err_set(err, CG_ECORRUPT, "a table has the name of another one");
  }
  return code;
}

/* Gives the log the waypoints of a table. Damaged ones are left out: seeking is slower then. */
static void give_waypoints(struct cg_index *index, struct cg_table *table) {
  for (uint32_t at = 0; index->log != NULL && at < table->header.segment_count; at++) {
    const struct cg_table_segment *segment = &table->segments[at];
    const struct cg_log_waypoint *waypoints;
    enum cg_code code = cg_table_waypoints(table, segment, &waypoints, NULL);
    cg_log_waypoints(index->log, segment->number, waypoints,
                     code == CG_OK ? (uint32_t)segment->waypoint_count : 0);
  }
}

void cg_index_join(struct cg_index *index, struct cg_log *log) {
  index->log = log;
  for (uint32_t at = 0; at < index->table_count; at++)
    give_waypoints(index, index->tables[at]);
}

void cg_index_set_replace(struct cg_index *index, uint32_t at, uint32_t count,
                          struct cg_table *const *tables, uint32_t table_count) {
  for (uint32_t i = 0; i < table_count; i++) {
    tables[i]->serial = ++index->serial;
    give_waypoints(index, tables[i]);
  }
  for (uint32_t i = 0; i < count; i++)
    cg_table_free(index->tables[at + i]);
  uint32_t new_count = index->table_count - count + table_count;
  if (new_count > index->table_capacity) {
    index->table_capacity = new_count * 2;
    index->tables = cg_realloc(index->tables, index->table_capacity * sizeof(index->tables[0]));
  }
  memmove(index->tables + at + table_count, index->tables + at + count,
          (index->table_count - at - count) * sizeof(index->tables[0]));
  memcpy(index->tables + at, tables, table_count * sizeof(tables[0]));
  index->table_count = new_count;
}

/* Removes the file of a table that is not used any more. */
static void remove_file(const struct cg_index *index, uint64_t first_segment,
                        uint64_t last_segment) {
  char *path = cg_table_path(index->place.directory, first_segment, last_segment, "");
  cg_io_unlink(index->place.fs, path); /* Failing that, the next open tries. */
  cg_free(path);
}

/* Files may be removed, and the worker makes others, at any moment: what an open said of a table
 * that was made just now is no lasting error then. */
static enum cg_code changed_meanwhile(struct cg_table *table, enum cg_code code,
                                      struct cg_err *err) {
  cg_table_free(table);
  if (code != CG_ENOTFOUND && code != CG_ECONFLICT)
    return code;
  cg_err_prefix(err, "the index was changed meanwhile");
  if (err != NULL)
    err->code = CG_EBUSY;
  return CG_EBUSY;
}

enum cg_code cg_index_set_build(const struct cg_index *index, const struct cg_log_seal *seal,
                                struct cg_table **table, struct cg_err *err) {
  enum cg_code code = cg_table_build(&index->place, seal, err);
  if (code != CG_OK)
    return code;
  code = cg_index_set_open(index, seal->number, seal->number, table, err);
  if (code == CG_OK)
    code = cg_table_match(*table, index->place.log_id, seal, err);
  if (code == CG_OK)
    return CG_OK;
  code = changed_meanwhile(*table, code, err);
  *table = NULL;
  return code;
}

/* --- merging --- */

/* How often MERGE_FACTOR tables were merged to get one of so many segments. */
static uint32_t level_of(const struct cg_table *table) {
  uint32_t level = 0;
  for (uint64_t count = table->header.segment_count; count >= MERGE_FACTOR; count /= MERGE_FACTOR)
    level++;
  return level;
}

bool cg_index_wants_merge(const struct cg_index *index, uint32_t *first) {
  uint32_t best_level = UINT32_MAX;
  for (uint32_t at = 0; at + MERGE_FACTOR <= index->table_count; at++) {
    uint32_t level = level_of(index->tables[at]), same = 1;
    while (same < MERGE_FACTOR && level_of(index->tables[at + same]) == level)
      same++;
    uint64_t positions = index->tables[at + MERGE_FACTOR - 1]->header.end_position -
                         index->tables[at]->header.first_position;
    if (same < MERGE_FACTOR || positions > UINT32_MAX || level >= best_level)
      continue;
    best_level = level;
    *first = at;
  }
  return best_level != UINT32_MAX;
}

/* The index of the table that begins with a segment; table_count: one behind the last. */
static bool find_first(const struct cg_index *index, uint64_t segment, uint32_t *at) {
  for (*at = 0; *at < index->table_count; (*at)++)
    if (index->tables[*at]->header.first_segment == segment)
      return true;
  return segment == cg_index_segment_count(index);
}

enum cg_code cg_index_add(struct cg_index *index, uint64_t first_segment, uint64_t last_segment,
                          struct cg_err *err) {
  uint32_t at, count = 0;
  bool fits = find_first(index, first_segment, &at);
  while (fits && at + count < index->table_count &&
         cg_table_last_segment(index->tables[at + count]) <= last_segment)
    count++;
  fits =
      fits && (at == index->table_count ||
               (count > 0 && cg_table_last_segment(index->tables[at + count - 1]) == last_segment));
  if (!fits)
    return cg_err_set(err, CG_ECONFLICT,
                      "a table of segments %" PRIu64 " to %" PRIu64 " does not fit the index",
                      first_segment, last_segment);
  struct cg_table *table;
  enum cg_code code = cg_index_set_open(index, first_segment, last_segment, &table, err);
  const struct cg_log_seal *seals;
  if (code == CG_OK && cg_log_seals(index->log, &seals) <= last_segment)
    code = cg_err_set(err, CG_ECONFLICT, "segment %" PRIu64 " is not sealed", last_segment);
  else if (code == CG_OK)
    code = cg_table_match(table, index->place.log_id, seals + first_segment, err);
  if (code != CG_OK) {
    cg_table_free(table);
    return code;
  }
  struct cg_table_header old[CG_TABLE_PARTS_MAX];
  uint32_t old_count = count < CG_TABLE_PARTS_MAX ? count : CG_TABLE_PARTS_MAX;
  for (uint32_t i = 0; i < old_count; i++)
    old[i] = index->tables[at + i]->header;
  cg_index_set_replace(index, at, count, &table, 1);
  for (uint32_t i = 0; i < old_count; i++)
    if (old[i].segment_count != table->header.segment_count)
      remove_file(index, old[i].first_segment, old[i].first_segment + old[i].segment_count - 1);
  return CG_OK;
}

/* --- rewritten segments --- */

/* The index of the table that has a segment. */
static bool find_table(const struct cg_index *index, uint64_t segment, uint32_t *at) {
  for (*at = 0; *at < index->table_count; (*at)++)
    if (segment >= index->tables[*at]->header.first_segment &&
        segment <= cg_table_last_segment(index->tables[*at]))
      return true;
  return false;
}

const struct cg_table *cg_index_table_of(const struct cg_index *index, uint64_t segment) {
  uint32_t at;
  return find_table(index, segment, &at) ? index->tables[at] : NULL;
}

/* Whether the log's segments are those of the table, once the segment of `seal` is the new one. */
static enum cg_code match_new(const struct cg_index *index, const struct cg_table *table,
                              const struct cg_log_seal *seal, struct cg_err *err) {
  const struct cg_log_seal *seals;
  uint64_t first = table->header.first_segment;
  uint32_t count = table->header.segment_count;
  if (cg_log_seals(index->log, &seals) < first + count)
    return cg_err_set(err, CG_ECONFLICT, "segment %" PRIu64 " is not sealed", first + count - 1);
  struct cg_log_seal *wanted = cg_alloc(count * sizeof(wanted[0]));
  memcpy(wanted, seals + first, count * sizeof(wanted[0]));
  wanted[seal->number - first] = *seal;
  enum cg_code code = cg_table_match(table, index->place.log_id, wanted, err);
  cg_free(wanted);
  return code;
}

enum cg_code cg_index_swap(struct cg_index *index, const struct cg_log_seal *seal, uint64_t first,
                           uint64_t last, struct cg_err *err) {
  uint32_t at;
  if (!find_table(index, seal->number, &at) || index->tables[at]->header.first_segment != first ||
      cg_table_last_segment(index->tables[at]) != last)
    return cg_err_set(err, CG_EBUSY, "segment %" PRIu64 " is in another table by now",
                      seal->number);
  struct cg_table *table;
  enum cg_code code = cg_index_set_open(index, first, last, &table, err);
  if (code == CG_OK)
    code = match_new(index, table, seal, err);
  if (code != CG_OK)
    return changed_meanwhile(table, code, err);
  code = cg_log_replace(index->log, seal, err);
  const struct cg_log_seal *seals;
  cg_log_seals(index->log, &seals);
  if (seals[seal->number].nonce != seal->nonce) {
    cg_table_free(table);
    return code;
  }
  cg_index_set_replace(index, at, 1, &table, 1); /* Also when the replacing is not durable. */
  return code;
}

/* --- mending --- */

enum cg_code cg_index_set_mend(struct cg_index *index, uint32_t at, struct cg_err *err) {
  struct cg_table *old = index->tables[at];
  uint64_t first = old->header.first_segment, last = cg_table_last_segment(old);
  uint32_t count = old->header.segment_count, built = 0;
  bool is_damaged = err->code == CG_ECORRUPT; /* Else the file is gone, or another. */
  if (is_damaged && old->is_mended)           /* It would only be made again as it is. */
    return err->code;
  cg_say(index->say, CG_SAY_WARN, "index: %s; reading segments %" PRIu64 " to %" PRIu64 " again",
         err->message, first, last);
  struct cg_table **tables = cg_alloc(count * sizeof(tables[0]));
  enum cg_code code = CG_OK;
  for (; built < count && code == CG_OK; built += code == CG_OK) {
    const struct cg_table_segment *segment = &old->segments[built];
    struct cg_log_seal seal = {.number = segment->number,
                               .first_position = segment->first_position,
                               .end_position = segment->end_position,
                               .nonce = segment->nonce,
                               .chain = segment->chain};
    code = cg_index_set_build(index, &seal, &tables[built], err);
    if (code == CG_OK)
      tables[built]->is_mended = is_damaged || old->is_mended;
  }
  if (code == CG_OK) {
    cg_index_set_replace(index, at, 1, tables, count);
    if (count > 1)
      remove_file(index, first, last);
  } else {
    while (built > 0)
      cg_table_free(tables[--built]);
    if (code == CG_ENOTFOUND) /* A segment's file: for readers that would mean that no record is. */
      code = err->code = CG_ECORRUPT;
    cg_err_prefix(err,
                  "the index of segments %" PRIu64 " to %" PRIu64 " is damaged and cannot be "
                  "built again",
                  first, last);
  }
  cg_free(tables);
  return code;
}

enum cg_code cg_index_rebuild(struct cg_index *index, uint64_t first_segment, struct cg_err *err) {
  uint32_t at;
  if (!find_first(index, first_segment, &at) || at == index->table_count)
    return CG_OK;
  return cg_index_set_mend(index, at, err);
}
