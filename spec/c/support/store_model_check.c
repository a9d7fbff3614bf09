/* store_model_check.c - compares a store with its model.
 *
 * Owns: nothing. Thread: one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/store_model_bytes.h"

#define PAGE_MAX 300 /* Names of a page. */

/* Compares a record that was read with the one at a position. */
static void check_record(struct store_model *model, uint32_t position,
                         const struct cg_record *found) {
  const struct store_model_record *record = &model->records[position - 1];
  struct store_model_bytes bytes;
  char name[STORE_MODEL_NAME_BYTES];
  store_model_bytes_make(&bytes, record);
  size_t name_size = store_model_name(record->stream, name);
  assert_int_equal(found->position, position);
  assert_int_equal(found->version, record->version);
  assert_int_equal(found->flags, record->flags);
  assert_int_equal(found->time_ms, record->time_ms);
  assert_int_equal(found->id, record->id);
  assert_int_equal(found->stream_size, name_size);
  assert_memory_equal(found->stream, name, name_size);
  assert_int_equal(found->type_size, strlen(bytes.type));
  assert_memory_equal(found->type, bytes.type, found->type_size);
  assert_int_equal(found->metadata_size, bytes.metadata_size);
  if (bytes.metadata_size > 0)
    assert_memory_equal(found->metadata, bytes.metadata, bytes.metadata_size);
  assert_int_equal(found->data_size, bytes.data_size);
  assert_memory_equal(found->data, bytes.data, bytes.data_size);
}

/* Reads one version; one that is gone must not be found. */
static void check_version(struct store_model *model, uint32_t stream, uint32_t version,
                          struct cg_buf *buf) {
  uint32_t position = model->streams[stream].positions[version];
  struct cg_record found;
  struct cg_err err;
  enum cg_code code =
      cg_store_read(model->store, model->streams[stream].number, version, buf, &found, &err);
  if (model->records[position - 1].is_gone) {
    assert_int_equal(code, CG_ENOTFOUND);
    return;
  }
  if (code != CG_OK)
    fail_msg("read version %u of stream %u: %s", version, stream, err.message);
  check_record(model, position, &found);
}

/* The version nearest to `version` that is there, by a step of 1 or -1; -1: none. */
static int64_t nearest(const struct store_model *model, uint32_t stream, int64_t version,
                       int step) {
  const struct store_model_stream *of = &model->streams[stream];
  while (version >= 0 && version < of->count && model->records[of->positions[version] - 1].is_gone)
    version += step;
  return version < of->count ? version : -1;
}

/* Seeks and reads on from a version, in one direction. */
static void check_range(struct store_model *model, uint32_t stream, int64_t version, int step,
                        uint32_t max, struct cg_buf *buf) {
  cg_store_stream number = model->streams[stream].number;
  for (uint32_t count = 0; count < max && version >= 0; count++) {
    uint64_t found;
    struct cg_err err;
    enum cg_code code =
        cg_store_seek(model->store, number, (uint64_t)version, step < 0, &found, &err);
    int64_t wanted = nearest(model, stream, version, step);
    if (code != CG_OK && code != CG_END)
      fail_msg("seek version %lld of stream %u: %s", (long long)version, stream, err.message);
    assert_int_equal(code, wanted < 0 ? CG_END : CG_OK);
    if (code == CG_END)
      return;
    assert_int_equal(found, wanted);
    check_version(model, stream, (uint32_t)wanted, buf);
    version = wanted + step;
  }
}

void store_model_check_stream(struct store_model *model, uint32_t stream, uint32_t max) {
  struct store_model_stream *of = &model->streams[stream];
  cg_store_stream number = store_model_find(model, stream, false);
  if (of->count == 0) {
    assert_true(number == CG_STORE_NO_STREAM || cg_store_count(model->store, number) == 0);
    return;
  }
  assert_true(number != CG_STORE_NO_STREAM);
  char name[STORE_MODEL_NAME_BYTES];
  size_t size, wanted = store_model_name(stream, name);
  assert_memory_equal(cg_store_name(model->store, number, &size), name, wanted);
  assert_int_equal(size, wanted);
  assert_int_equal(cg_store_count(model->store, number), of->count);
  assert_int_equal(cg_store_unfinished(model->store, number), of->is_unfinished);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record;
  uint32_t version = store_model_random(model, of->count);
  check_version(model, stream, version, buf);
  assert_int_equal(cg_store_read(model->store, number, of->count, buf, &record, NULL),
                   CG_ENOTFOUND);
  check_range(model, stream, max < of->count ? version : 0, 1, max, buf);
  check_range(model, stream, max < of->count ? version : of->count - 1, -1, max, buf);
  cg_buf_unref(buf);
}

void store_model_check_cursor(struct store_model *model, uint64_t after, uint32_t max) {
  struct cg_log *log = cg_store_log(model->store);
  struct cg_log_cursor *cursor = cg_log_cursor_new(log, after);
  struct cg_record found;
  struct cg_err err;
  enum cg_code code = CG_OK;
  for (uint32_t count = 0; count < max && code == CG_OK; count++) {
    after++;
    while (after <= model->count && model->records[after - 1].is_gone)
      after++;
    code = cg_log_cursor_next(cursor, cg_log_next_position(log), &found, &err);
    if (code != CG_OK && code != CG_END)
      fail_msg("cursor at %llu: %s", (unsigned long long)after, err.message);
    assert_int_equal(code, after <= model->count ? CG_OK : CG_END);
    if (code == CG_OK)
      check_record(model, (uint32_t)after, &found);
  }
  cg_log_cursor_free(cursor);
}

/* --- names and numbers --- */

/* Names in order. */
struct names {
  char (*items)[STORE_MODEL_NAME_BYTES]; /* Zero-terminated. */
  uint32_t count;                        /* How many. */
};

static bool on_name(void *arg, const char *name, size_t size) {
  struct names *names = arg;
  assert_true(names->count < STORE_MODEL_STREAMS && size < STORE_MODEL_NAME_BYTES);
  memcpy(names->items[names->count], name, size);
  names->items[names->count++][size] = 0;
  return true;
}

static int compare_names(const void *left, const void *right) {
  return strcmp(left, right);
}

/* The names with a prefix that the model has. */
static void list_wanted(const struct store_model *model, const char *prefix, size_t prefix_size,
                        struct names *names) {
  for (uint32_t stream = 0; stream < STORE_MODEL_STREAMS; stream++) {
    char *name = names->items[names->count];
    if (model->streams[stream].count == 0)
      continue;
    store_model_name(stream, name);
    names->count += strncmp(name, prefix, prefix_size) == 0;
  }
  qsort(names->items, names->count, sizeof(names->items[0]), compare_names);
}

void store_model_check_names(struct store_model *model) {
  char prefix[STORE_MODEL_NAME_BYTES];
  size_t size = store_model_name(store_model_any_stream(model), prefix);
  size_t items_bytes = (STORE_MODEL_STREAMS + 1) * sizeof(*(struct names){0}.items);
  struct names wanted = {.items = cg_alloc(items_bytes)}, found = {.items = cg_alloc(items_bytes)};
  struct cg_store_page page = {.prefix = prefix,
                               .prefix_size = store_model_random(model, (uint32_t)size + 1) % 12,
                               .max = 1 + store_model_random(model, PAGE_MAX)};
  list_wanted(model, prefix, page.prefix_size, &wanted);
  for (uint32_t before = UINT32_MAX; before != found.count;) {
    before = found.count;
    page.after = before > 0 ? found.items[before - 1] : NULL;
    page.after_size = before > 0 ? strlen(page.after) : 0;
    assert_int_equal(cg_store_streams(model->store, &page, on_name, &found, NULL), CG_OK);
    assert_true(found.count - before <= page.max);
  }
  assert_int_equal(found.count, wanted.count);
  for (uint32_t index = 0; index < wanted.count; index++)
    assert_string_equal(found.items[index], wanted.items[index]);
  cg_free(wanted.items);
  cg_free(found.items);
}

void store_model_check_numbers(struct store_model *model) {
  uint32_t wanted = 0, found = 0;
  for (uint32_t stream = 0; stream < STORE_MODEL_STREAMS; stream++) {
    const struct store_model_stream *of = &model->streams[stream];
    bool is_there =
        of->number != CG_STORE_NO_STREAM && !cg_store_is_stale(model->store, of->number);
    wanted += of->is_unfinished;
    if (of->is_unfinished && of->number != CG_STORE_NO_STREAM)
      assert_true(is_there);
    if (is_there)
      assert_int_equal(cg_store_count(model->store, of->number), of->count);
  }
  for (uint32_t place = 0; place < cg_store_place_count(model->store); place++) {
    cg_store_stream number = cg_store_at(model->store, place);
    found += number != CG_STORE_NO_STREAM && cg_store_unfinished(model->store, number);
  }
  assert_int_equal(found, wanted);
}

void store_model_check(struct store_model *model) {
  for (uint32_t stream = 0; stream < STORE_MODEL_STREAMS; stream++)
    store_model_check_stream(model, stream, UINT32_MAX);
  store_model_check_cursor(model, 0, UINT32_MAX);
  store_model_check_names(model);
  store_model_check_numbers(model);
}
