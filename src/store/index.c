/* index.c - how streams and entries are found: the tables are asked from the newest to the oldest.
 *
 * Owns: see index.h. Thread: the loop thread. */
#include "store/index.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/index_set.h"
#include "store/table_writer.h"

/* A stream found in a table. */
struct found {
  uint32_t at;                   /* Index of the table. */
  uint32_t place;                /* Of the stream in it. */
  struct cg_table_stream stream; /* What it has of the stream. */
};

static char *join(const char *path, const char *name) {
  size_t size = strlen(path) + strlen(name) + 2;
  char *joined = cg_alloc(size);
  snprintf(joined, size, "%s/%s", path, name);
  return joined;
}

void cg_index_init(struct cg_index *index, const char *path, const struct cg_fs *fs,
                   struct cg_clock clock, struct cg_say *say) {
  *index = (struct cg_index){.place = {.fs = fs,
                                       .log_path = join(path, "log"),
                                       .directory = join(path, "index"),
                                       .temporary = CG_TABLE_TEMPORARY},
                             .clock = clock,
                             .say = say};
}

void cg_index_deinit(struct cg_index *index) {
  for (uint32_t at = 0; at < index->table_count; at++)
    cg_table_free(index->tables[at]);
  cg_free(index->tables);
  cg_free((char *)(uintptr_t)index->place.log_path);
  cg_free((char *)(uintptr_t)index->place.directory);
}

uint64_t cg_index_segment_count(const struct cg_index *index) {
  return index->table_count == 0 ? 0
                                 : cg_table_last_segment(index->tables[index->table_count - 1]) + 1;
}

uint64_t cg_index_end_position(const struct cg_index *index) {
  return index->table_count == 0 ? 0 : index->tables[index->table_count - 1]->header.end_position;
}

uint64_t cg_index_last_id(const struct cg_index *index) {
  uint64_t last_id = 0;
  for (uint32_t at = 0; at < index->table_count; at++)
    if (index->tables[at]->header.last_id > last_id)
      last_id = index->tables[at]->header.last_id;
  return last_id;
}

/* --- finding --- */

/* Finds the stream in the newest table before the index `end` that has it; mends what is damaged on
 * the way. */
static enum cg_code find_below(struct cg_index *index, uint32_t end, const char *name, size_t size,
                               struct found *found, struct cg_err *err) {
  uint32_t hash = cg_table_hash(index->hash_seed, name, size);
  for (uint32_t at = end; at > 0;) {
    struct cg_table *table = index->tables[at - 1];
    enum cg_code code = cg_table_find(table, hash, name, size, &found->place, err);
    if (code == CG_OK)
      code = cg_table_stream(table, found->place, &found->stream, NULL, err);
    if (code == CG_OK) {
      found->at = at - 1;
      return CG_OK;
    }
    if (code == CG_ENOTFOUND) {
      at--;
      continue;
    }
    uint32_t count = index->table_count;
    code = cg_index_set_mend(index, at - 1, err);
    if (code != CG_OK)
      return code;
    at += index->table_count - count; /* There are smaller tables in its place. */
  }
  return CG_ENOTFOUND;
}

enum cg_code cg_index_find(struct cg_index *index, const char *name, size_t size, uint64_t *count,
                           struct cg_err *err) {
  struct found found;
  enum cg_code code = find_below(index, index->table_count, name, size, &found, err);
  if (code == CG_OK)
    *count = found.stream.last_version + 1;
  return code;
}

/* The table that the slot's hint means, or NULL. */
static struct cg_table *hinted(const struct cg_index *index, const struct cg_slot *slot) {
  for (uint32_t at = index->table_count; slot->hint_table != 0 && at > 0; at--)
    if (index->tables[at - 1]->serial == slot->hint_table)
      return index->tables[at - 1];
  return NULL;
}

/* The entry of a version in a stream of a table. CG_ENOTFOUND: it is not there. */
static enum cg_code entry_of(struct cg_table *table, const struct cg_table_stream *stream,
                             uint64_t version, struct cg_entry *entry, struct cg_err *err) {
  if (version < stream->first_version || version > stream->last_version)
    return CG_ENOTFOUND;
  uint32_t at;
  struct cg_table_entry found;
  enum cg_code code = cg_table_seek_version(table, stream, version, &at, err);
  if (code == CG_OK && at == stream->entry_count)
    return CG_ENOTFOUND;
  if (code == CG_OK)
    code = cg_table_entry(table, stream, at, &found, err);
  if (code == CG_OK && found.version != version)
    return CG_ENOTFOUND;
  if (code == CG_OK)
    *entry = (struct cg_entry){.place = found.place, .position = found.position};
  return code;
}

enum cg_code cg_index_entry(struct cg_index *index, struct cg_slot *slot, uint64_t version,
                            struct cg_entry *entry, struct cg_err *err) {
  struct cg_table *table = hinted(index, slot);
  struct cg_table_stream stream;
  if (table != NULL && cg_table_stream(table, slot->hint_stream, &stream, NULL, NULL) == CG_OK &&
      entry_of(table, &stream, version, entry, NULL) == CG_OK)
    return CG_OK;
  for (uint32_t end = index->table_count;;) {
    struct found found;
    enum cg_code code = find_below(index, end, slot->name, slot->name_size, &found, err);
    if (code != CG_OK)
      return code;
    code = entry_of(index->tables[found.at], &found.stream, version, entry, err);
    if (code == CG_OK) {
      slot->hint_table = index->tables[found.at]->serial;
      slot->hint_stream = found.place;
      return CG_OK;
    }
    end = found.at;
    if (code == CG_ENOTFOUND)
      continue;
    code = cg_index_set_mend(index, found.at, err);
    if (code != CG_OK)
      return code;
    end = index->table_count;
  }
}

/* The entry of a stream in a table that is nearest to a version, from it on or up to it.
 * CG_ENOTFOUND: there is none. */
static enum cg_code nearest(struct cg_table *table, const struct cg_table_stream *stream,
                            uint64_t version, bool is_backward, uint64_t *found,
                            struct cg_err *err) {
  uint32_t at;
  enum cg_code code = cg_table_seek_version(table, stream, version + is_backward, &at, err);
  if (code != CG_OK)
    return code;
  if (is_backward ? at == 0 : at == stream->entry_count)
    return CG_ENOTFOUND;
  struct cg_table_entry entry;
  code = cg_table_entry(table, stream, at - is_backward, &entry, err);
  if (code == CG_OK)
    *found = entry.version;
  return code;
}

enum cg_code cg_index_seek(struct cg_index *index, const struct cg_slot *slot, uint64_t version,
                           bool is_backward, uint64_t *found, struct cg_err *err) {
  bool is_found = false;
  for (uint32_t end = index->table_count;;) {
    struct found stream;
    enum cg_code code = find_below(index, end, slot->name, slot->name_size, &stream, err);
    if (code == CG_OK) {
      end = stream.at;
      code = nearest(index->tables[end], &stream.stream, version, is_backward, found, err);
      is_found = is_found || code == CG_OK;
      /* Older tables have lower versions only. */
      bool is_last = is_backward || stream.stream.first_version <= version;
      if (code == CG_ENOTFOUND || (code == CG_OK && !is_last))
        continue;
      if (code == CG_OK)
        return CG_OK;
      code = cg_index_set_mend(index, end, err);
      end = index->table_count;
      if (code == CG_OK)
        continue;
    }
    return code == CG_ENOTFOUND && is_found ? CG_OK : code;
  }
}
