/* table_test.c - the files of the index by themselves: streams with and without gaps, hashes sorted
 * in ranges, merged parts of tables, and what is no table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/table_build.h"
#include "store/table_writer.h"
#include "support/sim_fs.h"

#define STREAMS 5000u
#define SEGMENT_POSITIONS 100000u /* Positions of one segment. */
#define DIRECTORY "/index"

static struct sim_fs *sim;
static struct cg_err err;
static const uint8_t log_id[16] = "an id of a log.";

/* How a stream of the tests has its entries. */
struct shape {
  uint64_t first;    /* Version of the first. */
  uint32_t count;    /* Entries. */
  uint32_t step;     /* From one version to the next. */
  uint64_t last;     /* Last version, at least that of the last entry. */
  uint8_t state;     /* enum cg_table_state. */
  uint32_t distance; /* Position of the first, from the table's. */
};

static int setup(void **state) {
  (void)state;
  sim = sim_fs_new(5);
  sim_fs_put_directory(sim, DIRECTORY);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  sim_fs_free(sim);
  return 0;
}

static size_t name_of(uint32_t number, char name[32]) {
  return (size_t)snprintf(name, 32, "S%05u", number);
}

/* Every third stream is not in an odd table; every fifth has gaps; every seventh no entries. */
static bool shape_of(uint32_t number, uint32_t segment, struct shape *shape) {
  if (segment % 2 == 1 && number % 3 == 0)
    return false;
  uint64_t begin = (uint64_t)segment * 10;
  *shape = (struct shape){.first = begin,
                          .count = number % 7 == 0 ? 0 : 1 + number % 10,
                          .step = number % 5 == 0 ? 2 : 1,
                          .state = (uint8_t)((number + segment) % 3),
                          .distance = number * 10};
  if (shape->count > 5 && shape->step == 2)
    shape->count = 5;
  shape->last = shape->count == 0 ? begin + 9 : begin + (shape->count - 1) * shape->step;
  if (number % 11 == 0)
    shape->last = begin + 9; /* The last ones were scavenged. */
  if (shape->count == 0)
    shape->first = shape->last + 1;
  return true;
}

static void to_stream(const struct shape *shape, struct cg_table_stream *stream) {
  *stream = (struct cg_table_stream){.first_version = shape->first,
                                     .last_version = shape->last,
                                     .entry_count = shape->count,
                                     .state = shape->state};
  if (shape->first + shape->count != shape->last + 1)
    stream->flags = CG_TABLE_SPARSE;
}

static struct cg_table_segment segment_of(uint32_t number) {
  return (struct cg_table_segment){.number = number,
                                   .first_position = 1 + (uint64_t)number * SEGMENT_POSITIONS,
                                   .end_position = 1 + (uint64_t)(number + 1) * SEGMENT_POSITIONS,
                                   .nonce = number + 7,
                                   .chain = number + 9,
                                   .first_time_ms = number,
                                   .last_time_ms = number + 1,
                                   .waypoint_count = 2};
}

/* Where tables lie. */
static struct cg_table_place place_of(const atomic_bool *is_cancelled) {
  struct cg_table_place place = {.fs = sim_fs_calls(sim),
                                 .directory = DIRECTORY,
                                 .temporary = CG_TABLE_TEMPORARY,
                                 .is_cancelled = is_cancelled};
  memcpy(place.log_id, log_id, sizeof(log_id));
  return place;
}

/* Writes the table of one segment. */
static void write_table(uint32_t number, uint32_t stream_count, uint32_t sort_count_max) {
  struct cg_table_segment segment = segment_of(number);
  struct cg_table_header header = {.segment_count = 1,
                                   .first_segment = number,
                                   .first_position = segment.first_position,
                                   .end_position = segment.end_position,
                                   .last_id = 100 + number,
                                   .waypoint_count = 2};
  memcpy(header.log_id, log_id, sizeof(log_id));
  struct shape shape;
  struct cg_table_stream stream;
  char name[32];
  for (uint32_t i = 0; i < stream_count; i++) {
    if (!shape_of(i, number, &shape))
      continue;
    to_stream(&shape, &stream);
    header.stream_count++;
    header.name_bytes += name_of(i, name);
    cg_table_count(&header, &stream);
  }
  struct cg_table_writer writer;
  struct cg_table_place place = place_of(NULL);
  assert_int_equal(cg_table_writer_open(&writer, &place, &header, &err), CG_OK);
  writer.sort_count_max = sort_count_max;
  struct cg_log_waypoint waypoints[2] = {{.position = segment.first_position, .offset = 4096},
                                         {.position = segment.first_position + 9, .offset = 8192}};
  cg_table_writer_segment(&writer, &segment, waypoints);
  for (uint32_t i = 0; i < stream_count; i++) {
    if (!shape_of(i, number, &shape))
      continue;
    to_stream(&shape, &stream);
    cg_table_writer_stream(&writer, &stream, name, name_of(i, name));
    for (uint32_t at = 0; at < shape.count; at++) {
      struct cg_table_entry entry = {.version = shape.first + at * shape.step,
                                     .position = segment.first_position + shape.distance + at,
                                     .place = (uint64_t)number << 32 | (shape.distance + at)};
      cg_table_writer_entry(&writer, &entry);
    }
  }
  if (cg_table_writer_finish(&writer, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static struct cg_table *open_table(uint32_t first, uint32_t last) {
  char name[CG_TABLE_NAME_BYTES], path[128];
  cg_table_name(name, first, last);
  snprintf(path, sizeof(path), "%s/%s", DIRECTORY, name);
  struct cg_table *table;
  if (cg_table_open(&table, sim_fs_calls(sim), path, &err) != CG_OK)
    fail_msg("%s", err.message);
  return table;
}

static bool find(struct cg_table *table, uint32_t number, struct cg_table_stream *stream) {
  char name[32];
  size_t size = name_of(number, name);
  uint32_t place;
  enum cg_code code =
      cg_table_find(table, cg_table_hash(table->hash_seed, name, size), name, size, &place, &err);
  if (code == CG_ENOTFOUND)
    return false;
  if (code != CG_OK || cg_table_stream(table, place, stream, NULL, &err) != CG_OK)
    fail_msg("%s", err.message);
  uint32_t sought;
  assert_int_equal(cg_table_seek(table, name, size, &sought, &err), CG_OK);
  assert_int_equal(sought, place);
  return true;
}

/* The entries of one segment, at `index` of the stream and behind; the index behind them. */
static uint32_t check_entries(struct cg_table *table, const struct cg_table_stream *stream,
                              const struct shape *shape, uint32_t segment, uint32_t index) {
  for (uint32_t at = 0; at < shape->count; at++, index++) {
    struct cg_table_entry entry;
    uint64_t version = shape->first + at * shape->step;
    assert_int_equal(cg_table_entry(table, stream, index, &entry, &err), CG_OK);
    assert_int_equal(entry.version, version);
    assert_int_equal(entry.position, segment_of(segment).first_position + shape->distance + at);
    assert_int_equal(entry.place, (uint64_t)segment << 32 | (shape->distance + at));
    uint32_t sought;
    assert_int_equal(cg_table_seek_version(table, stream, version, &sought, &err), CG_OK);
    assert_int_equal(sought, index);
    if (shape->step == 2 && at > 0) { /* Versions that are not there lead to the next. */
      assert_int_equal(cg_table_seek_version(table, stream, version - 1, &sought, &err), CG_OK);
      assert_int_equal(sought, index);
    }
  }
  return index;
}

/* Checks a table of the segments first..last. */
static void check_table(struct cg_table *table, uint32_t first, uint32_t last,
                        uint32_t stream_count) {
  uint32_t opened_count = 0, found_count = 0;
  for (uint32_t number = 0; number < stream_count + 20; number++) {
    struct cg_table_stream stream;
    struct shape shape;
    bool is_there = false;
    uint32_t index = 0;
    uint64_t last_version = 0;
    uint8_t state = CG_TABLE_UNCHANGED;
    bool is_found = find(table, number, &stream);
    for (uint32_t segment = first; segment <= last && number < stream_count; segment++) {
      if (!shape_of(number, segment, &shape))
        continue;
      is_there = true;
      assert_true(is_found);
      index = check_entries(table, &stream, &shape, segment, index);
      last_version = shape.last;
      if (shape.state != CG_TABLE_UNCHANGED)
        state = shape.state;
    }
    assert_int_equal(is_found, is_there);
    if (!is_found)
      continue;
    found_count++;
    opened_count += state == CG_TABLE_OPENED;
    assert_int_equal(stream.entry_count, index);
    assert_int_equal(stream.last_version, last_version);
    assert_int_equal(stream.state, state);
  }
  assert_int_equal(table->header.stream_count, found_count);
  assert_int_equal(table->header.opened_count, opened_count);
  assert_int_equal(table->header.last_id, 100 + last);
}

static void streams_and_entries_are_found(void **state) {
  (void)state;
  static const uint32_t counts[] = {0, 1, 3, 4, 8, 100, STREAMS};
  for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
    write_table((uint32_t)i, counts[i], CG_TABLE_SORT_COUNT_MAX);
    struct cg_table *table = open_table((uint32_t)i, (uint32_t)i);
    check_table(table, (uint32_t)i, (uint32_t)i, counts[i]);
    const struct cg_log_waypoint *waypoints;
    assert_int_equal(cg_table_waypoints(table, table->segments, &waypoints, &err), CG_OK);
    assert_int_equal(waypoints[1].offset, 8192);
    cg_table_free(table);
  }
}

static void hashes_sorted_range_by_range_are_the_same(void **state) {
  (void)state;
  size_t size, again_size;
  write_table(0, STREAMS, CG_TABLE_SORT_COUNT_MAX);
  char path[] = DIRECTORY "/table-0000000000-0000000000.idx";
  uint8_t *bytes = sim_fs_bytes(sim, path, &size), *copy = cg_alloc(size);
  memcpy(copy, bytes, size);
  write_table(0, STREAMS, 37);
  bytes = sim_fs_bytes(sim, path, &again_size);
  assert_int_equal(size, again_size);
  assert_memory_equal(bytes, copy, size);
  cg_free(copy);
}

/* Merges some tables, each with the segments that it has. */
static void merge(struct cg_table_part *parts, uint32_t count) {
  struct cg_table_place place = place_of(NULL);
  if (cg_table_merge(&place, parts, count, NULL, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static void merged_tables_hold_what_their_parts_did(void **state) {
  (void)state;
  struct cg_table_part parts[4] = {{0}};
  for (uint32_t i = 0; i < 4; i++) {
    write_table(i, STREAMS, CG_TABLE_SORT_COUNT_MAX);
    parts[i] = (struct cg_table_part){.table = open_table(i, i), .segment_count = 1};
  }
  merge(parts, 4);
  struct cg_table *table = open_table(0, 3);
  check_table(table, 0, 3, STREAMS);
  for (uint32_t i = 0; i < 4; i++) {
    const struct cg_log_waypoint *waypoints;
    struct cg_table_segment segment = segment_of(i);
    assert_int_equal(cg_table_waypoints(table, &table->segments[i], &waypoints, &err), CG_OK);
    assert_int_equal(waypoints[1].position, segment.first_position + 9);
    segment.first_waypoint = i * 2;
    assert_memory_equal(&table->segments[i], &segment, sizeof(segment));
    cg_table_free(parts[i].table);
  }
  /* A segment that was written anew goes between what is left of the old table. */
  parts[0] = (struct cg_table_part){.table = table, .segment_count = 2};
  parts[1] = (struct cg_table_part){.table = open_table(2, 2), .segment_count = 1};
  parts[2] = (struct cg_table_part){.table = table, .first_segment = 3, .segment_count = 1};
  merge(parts, 3);
  struct cg_table *again = open_table(0, 3);
  check_table(again, 0, 3, STREAMS);
  cg_table_free(parts[1].table);
  cg_table_free(table);
  cg_table_free(again);
}

static void what_a_stream_was_last_outlives_its_records(void **state) {
  (void)state;
  struct cg_table_part parts[3] = {{0}};
  write_table(4, 10, CG_TABLE_SORT_COUNT_MAX);
  write_table(5, 10, CG_TABLE_SORT_COUNT_MAX);
  parts[0] = (struct cg_table_part){.table = open_table(4, 4), .segment_count = 1};
  parts[1] = (struct cg_table_part){.table = open_table(5, 5), .segment_count = 1};
  merge(parts, 2);
  struct cg_table *old = open_table(4, 5);
  cg_table_free(parts[1].table);
  write_table(5, 0, CG_TABLE_SORT_COUNT_MAX); /* Everything was scavenged. */
  struct cg_table *empty = open_table(5, 5);
  struct cg_table_part anew[3] = {{.table = old, .segment_count = 1},
                                  {.table = empty, .segment_count = 1},
                                  {.table = old, .first_segment = 2, .segment_count = 0}};
  merge(anew, 3);
  struct cg_table *table = open_table(4, 5);
  for (uint32_t number = 0; number < 10; number++) {
    struct cg_table_stream before, after;
    assert_int_equal(find(old, number, &before), find(table, number, &after));
    assert_int_equal(before.last_version, after.last_version);
    assert_int_equal(before.state, after.state);
    struct shape shape;
    assert_int_equal(after.entry_count, shape_of(number, 4, &shape) ? shape.count : 0);
  }
  cg_table_free(parts[0].table);
  cg_table_free(old);
  cg_table_free(empty);
  cg_table_free(table);
}

static void a_table_is_bound_to_its_segments(void **state) {
  (void)state;
  write_table(3, 10, CG_TABLE_SORT_COUNT_MAX);
  struct cg_table *table = open_table(3, 3);
  struct cg_table_segment segment = segment_of(3);
  struct cg_log_seal seal = {.number = 3,
                             .first_position = segment.first_position,
                             .end_position = segment.end_position,
                             .nonce = segment.nonce,
                             .chain = segment.chain};
  assert_int_equal(cg_table_match(table, log_id, &seal, &err), CG_OK);
  uint8_t other[16] = "another log's.";
  assert_int_equal(cg_table_match(table, other, &seal, &err), CG_ECONFLICT);
  struct cg_log_seal wrong = seal;
  wrong.nonce++;
  assert_int_equal(cg_table_match(table, log_id, &wrong, &err), CG_ECONFLICT);
  wrong = seal;
  wrong.chain++;
  assert_int_equal(cg_table_match(table, log_id, &wrong, &err), CG_ECONFLICT);
  wrong = seal;
  wrong.end_position++;
  assert_int_equal(cg_table_match(table, log_id, &wrong, &err), CG_ECONFLICT);
  cg_table_free(table);
}

/* Touches everything; whether all of it could be read. */
static bool read_all(const char *path) {
  struct cg_table *table;
  if (cg_table_open(&table, sim_fs_calls(sim), path, &err) != CG_OK)
    return false;
  struct cg_table_stream stream;
  struct cg_table_entry entry;
  const char *name;
  const uint32_t *places;
  const struct cg_log_waypoint *waypoints;
  bool is_well = cg_table_opened(table, &places, &err) == CG_OK &&
                 cg_table_closed(table, &places, &err) == CG_OK &&
                 cg_table_waypoints(table, table->segments, &waypoints, &err) == CG_OK;
  for (uint32_t place = 0; is_well && place < table->header.stream_count; place++) {
    uint32_t found;
    is_well = cg_table_stream(table, place, &stream, &name, &err) == CG_OK &&
              cg_table_find(table, stream.hash, name, stream.name_size, &found, &err) == CG_OK;
    for (uint32_t at = 0; is_well && at < stream.entry_count; at++)
      is_well = cg_table_entry(table, &stream, at, &entry, &err) == CG_OK;
  }
  cg_table_free(table);
  return is_well;
}

static void every_flipped_bit_is_noticed(void **state) {
  (void)state;
  write_table(0, 30, CG_TABLE_SORT_COUNT_MAX);
  char path[] = DIRECTORY "/table-0000000000-0000000000.idx";
  size_t size;
  uint8_t *bytes = sim_fs_bytes(sim, path, &size);
  assert_true(read_all(path));
  for (size_t bit = 0; bit < size * 8; bit++) {
    /* The rest of the header's page means nothing. */
    if (bit / 8 >= sizeof(struct cg_table_header) && bit / 8 < CG_TABLE_PAGE_BYTES)
      continue;
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (read_all(path))
      fail_msg("bit %zu of byte %zu", bit % 8, bit / 8);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  assert_true(read_all(path));
}

static void work_that_is_cancelled_leaves_no_file(void **state) {
  (void)state;
  atomic_bool is_cancelled = true;
  struct cg_table_place place = place_of(&is_cancelled);
  write_table(0, 10, CG_TABLE_SORT_COUNT_MAX);
  struct cg_table_part part = {.table = open_table(0, 0), .segment_count = 1};
  assert_int_equal(cg_table_merge(&place, &part, 1, NULL, &err), CG_ECANCELLED);
  size_t size;
  assert_null(sim_fs_bytes(sim, DIRECTORY "/table-0000000000-0000000000.idx.tmp", &size));
  cg_table_free(part.table);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
      TEST(streams_and_entries_are_found),
      TEST(hashes_sorted_range_by_range_are_the_same),
      TEST(merged_tables_hold_what_their_parts_did),
      TEST(what_a_stream_was_last_outlives_its_records),
      TEST(a_table_is_bound_to_its_segments),
      TEST(every_flipped_bit_is_noticed),
      TEST(work_that_is_cancelled_leaves_no_file),
#undef TEST
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
