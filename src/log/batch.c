/* batch.c - commits that were appended and are not written yet, as they will stand in the file.
 *
 * Adding is on the hot path: it copies the records between a header room and an end mark room that
 * the writer fills in later, and notes the commit in a table, so that the loop thread never has to
 * read what the writer may be writing. Memory grows by doubling and is kept from batch to batch.
 * Owns: its bytes and tables. Thread: see batch.h. */
#include "log/batch.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

#define BYTES_BEGIN ((size_t)64 << 10) /* First size of the bytes; it doubles. */
#define ENTRIES_BEGIN 64               /* First size of a table; it doubles. */

static void make_room(struct cg_batch *batch, size_t size);
static void copy_record(const uint8_t *record, size_t size, struct cg_buf *buf);

void cg_batch_deinit(struct cg_batch *batch) {
  cg_free(batch->bytes);
  cg_free(batch->commits);
  cg_free(batch->runs);
  *batch = (struct cg_batch){0};
}

void cg_batch_clear(struct cg_batch *batch) {
  batch->size = 0;
  batch->commit_count = 0;
  batch->run_count = 0;
}

void cg_batch_add(struct cg_batch *batch, struct cg_segment *segment, uint64_t offset,
                  const uint8_t *records, size_t records_size, uint32_t record_count,
                  uint64_t first_position) {
  size_t size = CG_COMMIT_HEADER_BYTES + records_size + CG_COMMIT_END_BYTES;
  make_room(batch, size);
  if (records_size > 0)
    memcpy(batch->bytes + batch->size + CG_COMMIT_HEADER_BYTES, records, records_size);

  struct cg_batch_run *run = batch->run_count > 0 ? &batch->runs[batch->run_count - 1] : NULL;
  if (!run || run->segment != segment || run->size >= CG_BATCH_RUN_BYTES_MAX) {
    run = &batch->runs[batch->run_count++];
    *run = (struct cg_batch_run){.segment = segment,
                                 .offset = offset,
                                 .begin = batch->size,
                                 .commit_begin = batch->commit_count};
  }
  assert(run->offset + run->size == offset);
  run->size += size;
  run->commit_count++;
  batch->commits[batch->commit_count++] =
      (struct cg_batch_commit){.first_position = first_position,
                               .place = segment->header.number << 32 | offset / 8,
                               .begin = batch->size,
                               .size = (uint32_t)size,
                               .record_count = record_count};
  batch->size += size;
}

const struct cg_batch_commit *cg_batch_find_place(const struct cg_batch *batch, uint64_t place) {
  size_t low = 0, high = batch->commit_count;
  while (low < high) { /* Finds the first commit behind the place. */
    size_t middle = low + (high - low) / 2;
    if (batch->commits[middle].place <= place)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0)
    return NULL;
  const struct cg_batch_commit *commit = &batch->commits[low - 1];
  return place < commit->place + commit->size / 8 ? commit : NULL;
}

const struct cg_batch_commit *cg_batch_find_position(const struct cg_batch *batch,
                                                     uint64_t position) {
  size_t low = 0, high = batch->commit_count;
  while (low < high) { /* Finds the first commit that ends behind the position. */
    size_t middle = low + (high - low) / 2;
    if (batch->commits[middle].first_position + batch->commits[middle].record_count <= position)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == batch->commit_count || batch->commits[low].first_position > position)
    return NULL;
  return &batch->commits[low];
}

bool cg_batch_copy_record(const struct cg_batch *batch, const struct cg_batch_commit *commit,
                          uint64_t place, struct cg_buf *buf) {
  size_t distance = (size_t)(place - commit->place) * 8;
  size_t at = CG_COMMIT_HEADER_BYTES;
  for (uint32_t index = 0; index < commit->record_count && at <= distance; index++) {
    const uint8_t *record = batch->bytes + commit->begin + at;
    size_t size = cg_record_stated_size(record, 4);
    if (at == distance) {
      copy_record(record, size, buf);
      return true;
    }
    at += size;
  }
  return false;
}

void cg_batch_copy_commit(const struct cg_batch *batch, const struct cg_batch_commit *commit,
                          struct cg_buf *buf) {
  const uint8_t *record = batch->bytes + commit->begin + CG_COMMIT_HEADER_BYTES;
  cg_buf_room(buf, commit->size);
  for (uint32_t index = 0; index < commit->record_count; index++) {
    size_t size = cg_record_stated_size(record, 4);
    copy_record(record, size, buf);
    record += size;
  }
}

/* --- inner functions --- */

/* Makes room for one more commit of `size` bytes and one more run. */
static void make_room(struct cg_batch *batch, size_t size) {
  if (batch->capacity - batch->size < size) {
    size_t capacity = batch->capacity > 0 ? batch->capacity : BYTES_BEGIN;
    while (capacity - batch->size < size)
      capacity *= 2;
    batch->bytes = cg_realloc(batch->bytes, capacity);
    batch->capacity = capacity;
  }
  if (batch->commit_count == batch->commit_capacity) {
    batch->commit_capacity =
        batch->commit_capacity > 0 ? batch->commit_capacity * 2 : ENTRIES_BEGIN;
    batch->commits = cg_realloc(batch->commits, batch->commit_capacity * sizeof(*batch->commits));
  }
  if (batch->run_count == batch->run_capacity) {
    batch->run_capacity = batch->run_capacity > 0 ? batch->run_capacity * 2 : ENTRIES_BEGIN;
    batch->runs = cg_realloc(batch->runs, batch->run_capacity * sizeof(*batch->runs));
  }
}

/* Appends a record but for its CRC (bytes 4 to 7), which the writer may be filling in right now. */
static void copy_record(const uint8_t *record, size_t size, struct cg_buf *buf) {
  uint8_t *copy = cg_buf_room(buf, size);
  memcpy(copy, record, 4);
  memset(copy + 4, 0, 4);
  memcpy(copy + 8, record + 8, size - 8);
  buf->size += size;
}
