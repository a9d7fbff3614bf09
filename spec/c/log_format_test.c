/* log_format_test.c - segments as they were written once must be readable for ever, and what is
 * written today must be the same bytes.
 *
 * A golden segment is kept as the first 96 bytes of its header and what stands behind the header,
 * in hexadecimal digits. It holds the positions 1 to 4; a rewritten one has lost 2 and 3. Never
 * change the digits: a new format is a new golden segment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "log/log.h"
#include "support/sim_fs.h"

#define HEADER_KEPT 96 /* Bytes of a header that are kept; the rest is zero. */
#define FILE_BYTES_MAX 8192
#define PATH "/log/segment-0000000000.log"
#define NEW_PATH "/log/segment-0000000000.log.rewritten"

/* Format version 1: three commits and a mark. */
static const char version_1[] =
    "43415447415345470100000000100000c15c0289ec2d0a9167ec8e65a18debbe000000000000000001000000"
    "00000000eea293f8000000000068e5cf8b010000000001000000000000000000000000000000000000000000"
    "000000008eefff3443474331800000000100000000000000010000000000000001000000000000000068e5cf"
    "8b0100000000000005b2f559480000004868082a00000000000000000168e5cf8b010000591b000000000000"
    "000007000600000001000000070000004f726465722d31506c616365646d7b226e223a317d00000043474531"
    "723a469043474331c8000000020000000000000002000000723a469002000000000000000068e5cf8b010000"
    "00000000cf6e9b6848000000bfb04edd01000000000000000268e5cf8b0100005a1b00000000000000000700"
    "0600000001000000070000004f726465722d31506c616365646d7b226e223a317d0000004800000045413ec3"
    "02000000000000000368e5cf8b0100005b1b000000000000000007000600000001000000070000004f726465"
    "722d31506c616365646d7b226e223a317d0000004347453102a1664543474331800000000400000000000000"
    "0100000002a1664504000000000000000068e5cf8b01000000000000bebf52b548000000dee846c403000000"
    "000000000468e5cf8b0100005c1b000000000000080007000600000001000000070000004f726465722d3150"
    "6c616365646d7b226e223a317d0000004347453130eb6eff4347433138000000050000000000000000000000"
    "30eb6eff05000000000000000068e5cf8b01000000000000e4187b054347453154a9b6c6";

/* Format version 2, rewritten: positions 2 and 3 are a hole. */
static const char version_2[] =
    "43415447415345470200000000100000c15c0289ec2d0a9167ec8e65a18debbe000000000000000001000000"
    "00000000baf4ca05000000000068e5cf8b01000000000100000000000000000054a9b6c60500000000000000"
    "00000000db272c5143474331800000000100000000000000010000000000000001000000000000000068e5cf"
    "8b0100000000000082f53ff54800000001d0caa700000000000000000168e5cf8b010000591b000000000000"
    "000007000600000001000000070000004f726465722d31506c616365646d7b226e223a317d00000043474531"
    "6d358fc143474331680000000200000000000000010000006d358fc102000000000000000068e5cf8b010000"
    "01000000d5eb2a4d3000000038bbde5102000000000000000000000000000000000000000000000020000000"
    "0000000000000000000000004347453111fe28e5434743318000000004000000000000000100000011fe28e5"
    "04000000000000000068e5cf8b010000000000006a49e6b1480000009750844903000000000000000468e5cf"
    "8b0100005c1b000000000000080007000600000001000000070000004f726465722d31506c616365646d7b22"
    "6e223a317d000000434745318e631625";

/* The same, compressed. */
static const char version_2_compressed[] =
    "43415447415345470200000000100000c15c0289ec2d0a9167ec8e65a18debbe000000000000000001000000"
    "00000000baf4ca05000000000068e5cf8b01000000000100000000000100000054a9b6c60500000000000000"
    "1902000008fa65ebbd000000310242ac28b52ffd6068009d0500d406434743318000000001000068e5cf8b82"
    "f53ff548d0caa701591b07000600004f726465722d31506c616365646d7b226e223a317d000000434745316d"
    "358fc1434743316800000002000000d5eb2a4d3000000038bbde512011fe28e5046a49e6b19750844903045c"
    "088e6316252020a0029a2c1e3082bb1d93bff56ee2156b0f86876541e3d672d0a2550ca28ecb3d0c2af70106"
    "1218082c84b189a8bab3276cd040cce220b959d8785b8d9ee940617048000000434754310100000068110000"
    "000000000002000066dbf7f7";

/* The bytes of a golden segment; returns how many. */
static size_t decode(const char *digits, uint8_t bytes[FILE_BYTES_MAX]) {
  memset(bytes, 0, FILE_BYTES_MAX);
  size_t size = 0;
  for (; *digits; digits += 2, size++) {
    unsigned value;
    assert_int_equal(sscanf(digits, "%2x", &value), 1);
    if (size == HEADER_KEPT)
      size = CG_SEGMENT_HEADER_BYTES;
    assert_true(size < FILE_BYTES_MAX);
    bytes[size] = (uint8_t)value;
  }
  return size;
}

/* How the golden log was written. */
static struct cg_log_options options_of(struct sim_fs *sim, struct cg_clock_virtual *clock) {
  return (struct cg_log_options){.fs = sim_fs_calls(sim),
                                 .clock = cg_clock_of(clock),
                                 .segment_bytes = 64 << 10,
                                 .nonce_seed = 1,
                                 .manual = true};
}

/* What the record at a position is. */
static struct cg_record record_of(uint64_t position) {
  return (struct cg_record){
      .position = position,
      .version = position - 1,
      .time_ms = (int64_t)(1700000000000 + position),
      .id = 7000 + position,
      .flags = position == 4 ? CG_RECORD_INTERNAL : 0,
      .stream = "Order-1",
      .stream_size = 7,
      .type = "Placed",
      .type_size = 6,
      .metadata = (const uint8_t *)"m",
      .metadata_size = 1,
      .data = (const uint8_t *)"{\"n\":1}",
      .data_size = 7,
  };
}

/* Expects a record to be the one at its position. */
static void expect_record(const struct cg_record *record) {
  struct cg_record expected = record_of(record->position);
  assert_int_equal(record->version, expected.version);
  assert_int_equal(record->time_ms, expected.time_ms);
  assert_int_equal(record->id, expected.id);
  assert_int_equal(record->flags, expected.flags);
  assert_int_equal(record->stream_size, expected.stream_size);
  assert_memory_equal(record->stream, expected.stream, expected.stream_size);
  assert_int_equal(record->type_size, expected.type_size);
  assert_memory_equal(record->type, expected.type, expected.type_size);
  assert_int_equal(record->metadata_size, expected.metadata_size);
  assert_memory_equal(record->metadata, expected.metadata, expected.metadata_size);
  assert_int_equal(record->data_size, expected.data_size);
  assert_memory_equal(record->data, expected.data, expected.data_size);
}

/* Adds the bit of its position. */
static bool on_record(void *arg, const struct cg_record *record, cg_log_place place) {
  (void)place;
  expect_record(record);
  *(unsigned *)arg |= 1u << record->position;
  return true;
}

static void on_replay(void *arg, const struct cg_record *record, cg_log_place place) {
  on_record(arg, record, place);
}

static void append(struct cg_log *log, uint32_t record_count) {
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  cg_log_place place;
  uint64_t tail = cg_log_next_position(log);
  for (uint32_t index = 0; index < record_count; index++) {
    struct cg_record record = record_of(tail + index);
    cg_record_append(buf, &record);
  }
  assert_int_equal(cg_log_append(log, buf->data, buf->size, record_count, tail, &place, NULL),
                   CG_OK);
  cg_log_turn(log);
  cg_buf_unref(buf);
}

static void test_a_segment_of_version_1_is_read(void **state) {
  (void)state;
  struct sim_fs *sim = sim_fs_new(1);
  struct cg_clock_virtual clock = {.wall_ms = 1700000000000};
  struct cg_log_options options = options_of(sim, &clock);
  uint8_t bytes[FILE_BYTES_MAX];
  unsigned seen = 0;
  sim_fs_put_directory(sim, "/log");
  sim_fs_put(sim, PATH, bytes, decode(version_1, bytes));
  options.replay = on_replay;
  options.replay_arg = &seen;
  struct cg_log *log;
  struct cg_err err;
  if (cg_log_open_file(&log, "/log", &options, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(seen, 0x1e);
  assert_int_equal(cg_log_next_position(log), 5);
  append(log, 1); /* And written on. */
  cg_log_abandon(log);
  sim_fs_free(sim);
}

static void test_a_segment_is_written_as_it_ever_was(void **state) {
  (void)state;
  struct sim_fs *sim = sim_fs_new(1);
  struct cg_clock_virtual clock = {.wall_ms = 1700000000000};
  struct cg_log_options options = options_of(sim, &clock);
  uint8_t bytes[FILE_BYTES_MAX];
  size_t size = decode(version_1, bytes), written_size;
  struct cg_log *log;
  assert_int_equal(cg_log_open_file(&log, "/log", &options, NULL), CG_OK);
  append(log, 1);
  append(log, 2);
  append(log, 1);
  cg_clock_virtual_advance(&clock, 100);
  cg_log_turn(log); /* The mark. */
  const uint8_t *written = sim_fs_bytes(sim, PATH, &written_size);
  assert_memory_equal(written, bytes, size);
  cg_log_abandon(log);
  sim_fs_free(sim);
}

/* The seal that the golden segments of version 2 state. */
static struct cg_log_seal seal_of(const uint8_t *bytes, size_t size) {
  struct cg_segment_header header;
  struct cg_err err;
  if (cg_segment_header_decode(bytes, size, &header, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_true(header.is_rewritten);
  assert_int_equal(header.first_position, 1);
  assert_int_equal(header.end_position, 5);
  return (struct cg_log_seal){.first_position = header.first_position,
                              .end_position = header.end_position,
                              .nonce = header.nonce,
                              .chain = header.end_chain};
}

static void test_a_segment_of_version_2_is_read(void **state) {
  (void)state;
  const char *const golden[] = {version_2, version_2_compressed};
  for (size_t index = 0; index < 2; index++) {
    struct sim_fs *sim = sim_fs_new(1);
    uint8_t bytes[FILE_BYTES_MAX];
    size_t size = decode(golden[index], bytes);
    struct cg_log_seal seal = seal_of(bytes, size);
    unsigned seen = 0;
    struct cg_err err;
    sim_fs_put_directory(sim, "/log");
    sim_fs_put(sim, PATH, bytes, size);
    struct cg_log_scan face = {.record = on_record, .arg = &seen};
    if (cg_log_scan("/log", sim_fs_calls(sim), &seal, &face, &err) != CG_OK)
      fail_msg("%s", err.message);
    assert_int_equal(seen, 0x12);
    sim_fs_free(sim);
  }
}

/* Keeps the positions 1 and 4. */
static bool on_keep(void *arg, const struct cg_record *record) {
  (void)arg;
  return record->position == 1 || record->position == 4;
}

/* The compressed bytes are those of the library's version, so only the plain ones are compared. */
static void test_a_segment_is_rewritten_as_it_ever_was(void **state) {
  (void)state;
  struct sim_fs *sim = sim_fs_new(1);
  uint8_t bytes[FILE_BYTES_MAX];
  size_t size = decode(version_1, bytes), new_size;
  struct cg_segment_header header;
  assert_int_equal(cg_segment_header_decode(bytes, size, &header, NULL), CG_OK);
  sim_fs_put_directory(sim, "/log");
  sim_fs_put(sim, PATH, bytes, size);
  size = decode(version_2, bytes);
  struct cg_log_seal seal = seal_of(bytes, size), old = seal;
  old.nonce = header.nonce;
  struct cg_log_rewrite rewrite = {.keep = on_keep, .nonce_seed = 5};
  assert_int_equal(cg_log_rewrite("/log", sim_fs_calls(sim), &old, &rewrite, NULL), CG_OK);
  assert_memory_equal(&old, &seal, sizeof(seal));
  const uint8_t *written = sim_fs_bytes(sim, NEW_PATH, &new_size);
  assert_int_equal(new_size, size);
  assert_memory_equal(written, bytes, size);
  sim_fs_free(sim);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_segment_of_version_1_is_read),
      cmocka_unit_test(test_a_segment_is_written_as_it_ever_was),
      cmocka_unit_test(test_a_segment_of_version_2_is_read),
      cmocka_unit_test(test_a_segment_is_rewritten_as_it_ever_was),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
