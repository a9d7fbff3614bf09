/* log_model.c - what was appended to a log, so that what comes back can be compared with it.
 *
 * Owns: the list of commits. Thread: one. */
#include "support/log_model.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/sim_file.h"

#define PLACE_SAMPLE 7 /* Every so manyth record is also read by its place. */

void log_model_deinit(struct log_model *model) {
  cg_free(model->commits);
  *model = (struct log_model){0};
}

/* Appends one record of a commit; everything in it comes from salt and position. */
static void encode_record(const struct log_model_commit *commit, uint64_t position,
                          struct cg_buf *buf) {
  uint64_t state = commit->salt * UINT64_C(1000003) + position;
  char stream[32], type[32];
  uint8_t metadata[16];
  struct cg_record record = {
      .version = position,
      .time_ms = (int64_t)sim_file_random(&state, UINT64_C(1) << 40),
      .id = sim_file_random(&state, UINT64_C(1) << 62),
      .flags = (uint16_t)sim_file_random(&state, 16),
      .stream = stream,
      .type = type,
      .metadata = metadata,
      .metadata_size = (uint32_t)sim_file_random(&state, sizeof(metadata) + 1),
  };
  record.stream_size =
      (uint16_t)snprintf(stream, sizeof(stream), "order-%d", (int)sim_file_random(&state, 100));
  record.type_size =
      (uint16_t)snprintf(type, sizeof(type), "Type%d", (int)sim_file_random(&state, 20000));
  memset(metadata, (int)sim_file_random(&state, 256), sizeof(metadata));
  size_t offset = cg_record_begin(buf, &record);
  size_t size = sim_file_random(&state, (uint64_t)commit->data_max + 1);
  uint8_t *data = cg_buf_room(buf, size);
  uint64_t word = state + position;
  for (size_t index = 0; index < size; index += sizeof(word), word += state | 1)
    memcpy(data + index, &word, size - index < sizeof(word) ? size - index : sizeof(word));
  buf->size += size;
  cg_record_finish(buf, offset);
}

void log_model_encode(const struct log_model_commit *commit, struct cg_buf *buf) {
  buf->size = 0;
  for (uint32_t index = 0; index < commit->record_count; index++)
    encode_record(commit, commit->first_position + index, buf);
}

bool log_model_matches(const struct log_model_commit *commit, const struct cg_record *record) {
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  encode_record(commit, record->position, buf);
  struct cg_record expected;
  size_t size;
  bool is_same =
      cg_record_decode(buf->data, buf->size, &expected, &size, NULL) == CG_OK &&
      expected.version == record->version && expected.time_ms == record->time_ms &&
      expected.id == record->id && expected.flags == record->flags &&
      expected.stream_size == record->stream_size && expected.type_size == record->type_size &&
      expected.metadata_size == record->metadata_size && expected.data_size == record->data_size &&
      memcmp(expected.stream, record->stream, expected.stream_size) == 0 &&
      memcmp(expected.type, record->type, expected.type_size) == 0 &&
      memcmp(expected.metadata, record->metadata, expected.metadata_size) == 0 &&
      memcmp(expected.data, record->data, expected.data_size) == 0;
  cg_buf_unref(buf);
  return is_same;
}

enum cg_code log_model_append(struct log_model *model, struct cg_log *log, uint32_t record_count,
                              uint32_t data_max, struct cg_err *err) {
  if (model->count == model->capacity) {
    model->capacity = model->capacity > 0 ? model->capacity * 2 : 64;
    model->commits = cg_realloc(model->commits, model->capacity * sizeof(*model->commits));
  }
  struct log_model_commit *commit = &model->commits[model->count];
  *commit = (struct log_model_commit){.first_position = cg_log_next_position(log),
                                      .record_count = record_count,
                                      .data_max = data_max,
                                      .salt = ++model->salts};
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  log_model_encode(commit, buf);
  enum cg_code code = cg_log_append(log, buf->data, buf->size, record_count, commit->first_position,
                                    &commit->place, err);
  cg_buf_unref(buf);
  if (code == CG_OK)
    model->count++;
  return code;
}

const struct log_model_commit *log_model_find(const struct log_model *model, uint64_t position) {
  size_t low = 0, high = model->count;
  while (low < high) { /* Finds the first commit behind the position. */
    size_t middle = low + (high - low) / 2;
    if (model->commits[middle].first_position <= position)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0)
    return NULL;
  const struct log_model_commit *commit = &model->commits[low - 1];
  return position < commit->first_position + commit->record_count ? commit : NULL;
}

void log_model_begin(struct log_model *model) {
  model->seen_position = 1;
  model->seen_commit = 0;
  model->fault = NULL;
}

static void set_fault(struct log_model *model, const char *fault) {
  if (!model->fault)
    model->fault = fault;
}

void log_model_see(void *arg, const struct cg_record *record, cg_log_place place) {
  struct log_model *model = arg;
  if (model->is_blind)
    return;
  if (record->position != model->seen_position)
    set_fault(model, "a record is out of order");
  model->seen_position = record->position + 1;
  if (model->seen_commit == model->count) {
    set_fault(model, "a record came that was never appended");
    return;
  }
  const struct log_model_commit *commit = &model->commits[model->seen_commit];
  if (!log_model_matches(commit, record))
    set_fault(model, "a record differs from what was appended");
  if (record->position == commit->first_position && place != commit->place)
    set_fault(model, "a record came back at another place");
  if (record->position + 1 == commit->first_position + commit->record_count)
    model->seen_commit++;
}

const char *log_model_settle(struct log_model *model) {
  if (model->seen_commit < model->count &&
      model->seen_position > model->commits[model->seen_commit].first_position)
    set_fault(model, "only a part of a commit came back");
  if (model->seen_position < model->acknowledged_position)
    set_fault(model, "an acknowledged commit is lost");
  model->count = model->seen_commit;
  model->acknowledged_position = model->seen_position;
  return model->fault;
}

/* Reads a record by its place and compares it. */
static bool is_readable(const struct log_model *model, struct cg_log *log, uint64_t position,
                        struct cg_buf *buf) {
  const struct log_model_commit *commit = log_model_find(model, position);
  struct cg_buf *encoded = cg_buf_take(NULL, 256);
  cg_log_place place = commit->place;
  for (uint64_t before = commit->first_position; before < position; before++) {
    encoded->size = 0;
    encode_record(commit, before, encoded);
    place += encoded->size / 8;
  }
  cg_buf_unref(encoded);
  struct cg_record record;
  if (cg_log_read(log, place, buf, &record, NULL) != CG_OK || record.position != 0)
    return false;
  record.position = position;
  return log_model_matches(commit, &record);
}

const char *log_model_compare(struct log_model *model, struct cg_log *log) {
  struct cg_log_cursor *cursor = cg_log_cursor_new(log, 0);
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  const char *fault = NULL;
  uint64_t position = 1;
  struct cg_record record;
  enum cg_code code;
  while ((code = cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL)) == CG_OK && !fault) {
    const struct log_model_commit *commit = log_model_find(model, position);
    if (record.position != position || !commit || !log_model_matches(commit, &record))
      fault = "the cursor gave another record";
    else if (position % PLACE_SAMPLE == 0 && !is_readable(model, log, position, buf))
      fault = "a record could not be read at its place";
    position++;
  }
  if (!fault && code != CG_END)
    fault = "the cursor failed";
  if (!fault && position != cg_log_next_position(log))
    fault = "the cursor did not reach the tail";
  cg_buf_unref(buf);
  cg_log_cursor_free(cursor);
  return fault;
}
