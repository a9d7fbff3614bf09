/* record_test.c - the bytes of records, commits and segment headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "log/record.h"

#define NONCE 0x1234abcdu

static const struct cg_record sample = {
    .version = 0x0102030405060708,
    .time_ms = 1700000000123,
    .id = 0x1122334455667788,
    .flags = CG_RECORD_JOURNAL | CG_RECORD_OPENS,
    .stream = "Order-42",
    .stream_size = 8,
    .type = "OrderCreated",
    .type_size = 12,
    .metadata = (const uint8_t *)"{}",
    .metadata_size = 2,
    .data = (const uint8_t *)"{\"amount\":7}",
    .data_size = 12,
};

static void assert_same(const struct cg_record *left, const struct cg_record *right) {
  assert_int_equal(left->version, right->version);
  assert_int_equal(left->time_ms, right->time_ms);
  assert_int_equal(left->id, right->id);
  assert_int_equal(left->flags, right->flags);
  assert_int_equal(left->stream_size, right->stream_size);
  assert_int_equal(left->type_size, right->type_size);
  assert_int_equal(left->metadata_size, right->metadata_size);
  assert_int_equal(left->data_size, right->data_size);
  assert_int_equal(memcmp(left->stream, right->stream, left->stream_size), 0);
  assert_int_equal(memcmp(left->type, right->type, left->type_size), 0);
  assert_int_equal(memcmp(left->metadata, right->metadata, left->metadata_size), 0);
  assert_int_equal(memcmp(left->data, right->data, left->data_size), 0);
}

static void test_a_record_comes_back_as_it_went_in(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  char text[64];
  memset(text, 'x', sizeof(text));
  for (int size = 0; size < 40; size++) {
    struct cg_record record = sample, decoded;
    record.stream = record.type = text;
    record.stream_size = (uint16_t)(size % 5);
    record.type_size = (uint16_t)(size % 7);
    record.metadata = record.data = (const uint8_t *)text;
    record.metadata_size = (uint32_t)size % 11;
    record.data_size = (uint32_t)size;
    size_t before = buf->size, decoded_size;
    cg_record_append(buf, &record);
    assert_int_equal(buf->size - before, cg_record_size(record.stream_size, record.type_size,
                                                        record.metadata_size, record.data_size));
    assert_int_equal(buf->size % 8, 0);
    assert_int_equal(
        cg_record_decode(buf->data + before, buf->size - before, &decoded, &decoded_size, NULL),
        CG_OK);
    assert_int_equal(decoded_size, buf->size - before);
    assert_int_equal(decoded.position, 0);
    assert_same(&record, &decoded);
  }
  cg_buf_unref(buf);
}

/* The format is final: these bytes must never change. */
static void test_the_bytes_of_a_record_are_those_of_the_table(void **state) {
  (void)state;
  static const uint8_t expected[] = {
      88,   0,    0,    0,    0,    0,    0,    0,    /* size, CRC */
      8,    7,    6,    5,    4,    3,    2,    1,    /* version */
      0x7b, 0x68, 0xe5, 0xcf, 0x8b, 1,    0,    0,    /* time */
      0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id */
      3,    0,    8,    0,    12,   0,    0,    0,    /* flags, stream, type, zero */
      2,    0,    0,    0,    12,   0,    0,    0,    /* metadata, data */
      'O',  'r',  'd',  'e',  'r',  '-',  '4',  '2',  /* stream */
      'O',  'r',  'd',  'e',  'r',  'C',  'r',  'e',  'a', 't', 'e', 'd', /* type */
      '{',  '}',                                                          /* metadata */
      '{',  '"',  'a',  'm',  'o',  'u',  'n',  't',  '"', ':', '7', '}', /* data */
      0,    0,    0,    0,    0,    0,                                    /* padding */
  };
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  cg_record_append(buf, &sample);
  assert_int_equal(buf->size, sizeof(expected));
  assert_memory_equal(buf->data, expected, sizeof(expected));
  cg_buf_unref(buf);
}

static void test_data_can_be_produced_in_place(void **state) {
  (void)state;
  struct cg_buf *whole = cg_buf_take(NULL, 0), *parts = cg_buf_take(NULL, 0);
  cg_record_append(whole, &sample);
  cg_buf_append(parts, "12345678", 8); /* Something before it. */
  size_t offset = cg_record_begin(parts, &sample);
  assert_int_equal(offset, 8);
  for (uint32_t index = 0; index < sample.data_size; index++)
    cg_buf_append(parts, sample.data + index, 1);
  cg_record_finish(parts, offset);
  assert_int_equal(parts->size, whole->size + 8);
  assert_memory_equal(parts->data + 8, whole->data, whole->size);
  cg_buf_unref(whole);
  cg_buf_unref(parts);
}

static void test_a_record_whose_sizes_do_not_fit_is_refused(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record decoded;
  size_t size;
  struct cg_err err;
  cg_record_append(buf, &sample);
  for (size_t cut = 0; cut < buf->size; cut++)
    assert_int_equal(cg_record_decode(buf->data, cut, &decoded, &size, &err), CG_ECORRUPT);
  for (size_t cut = 0; cut < buf->size; cut++)
    assert_int_equal(cg_record_fit(buf->data, cut), 0);
  assert_int_equal(cg_record_fit(buf->data, buf->size + 100), buf->size);
  /* Every byte that says a size or must be zero. */
  static const uint8_t places[] = {0,  1,  2,  3,  34, 35, 36, 37, 38, 39, 40, 41,
                                   42, 43, 44, 45, 46, 47, 82, 83, 84, 85, 86, 87};
  for (size_t index = 0; index < sizeof(places); index++) {
    buf->data[places[index]] ^= 0x48;
    assert_int_equal(cg_record_decode(buf->data, buf->size, &decoded, &size, &err), CG_ECORRUPT);
    bool is_size = places[index] != 38 && places[index] != 39 && places[index] < 48;
    assert_int_equal(cg_record_fit(buf->data, buf->size), is_size ? 0 : buf->size);
    buf->data[places[index]] ^= 0x48;
  }
  assert_int_equal(cg_record_decode(buf->data, buf->size, &decoded, &size, &err), CG_OK);
  cg_buf_unref(buf);
}

static void test_names_over_their_bounds_are_refused(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 4096);
  static char text[CG_RECORD_STREAM_BYTES_MAX];
  struct cg_record record = {.stream = text,
                             .stream_size = CG_RECORD_STREAM_BYTES_MAX,
                             .type = text,
                             .type_size = CG_RECORD_TYPE_BYTES_MAX,
                             .data = (const uint8_t *)text,
                             .data_size = 8};
  struct cg_record decoded;
  size_t size;
  cg_record_append(buf, &record);
  assert_int_equal(cg_record_decode(buf->data, buf->size, &decoded, &size, NULL), CG_OK);
  buf->data[34]++; /* One byte more of stream, one less of data: the sizes still fit. */
  buf->data[44]--;
  assert_int_equal(cg_record_decode(buf->data, buf->size, &decoded, &size, NULL), CG_ECORRUPT);
  buf->data[34]--;
  buf->data[36]++;
  assert_int_equal(cg_record_decode(buf->data, buf->size, &decoded, &size, NULL), CG_ECORRUPT);
  cg_buf_unref(buf);
}

static void test_a_segment_header_comes_back_and_every_bit_counts(void **state) {
  (void)state;
  struct cg_segment_header header = {.log_id = {1, 2, 3, 15, 16},
                                     .number = 7,
                                     .first_position = 1000,
                                     .nonce = NONCE,
                                     .chain = 99,
                                     .created_ms = 1700000000000,
                                     .segment_bytes = 256 << 20};
  uint8_t bytes[CG_SEGMENT_HEADER_BYTES];
  struct cg_segment_header decoded;
  struct cg_err err;
  cg_segment_header_encode(&header, bytes);
  assert_memory_equal(bytes, "CATGASEG\1\0\0\0\0\20\0\0", 16);
  assert_int_equal(cg_segment_header_decode(bytes, sizeof(bytes), &decoded, &err), CG_OK);
  assert_memory_equal(&decoded, &header, sizeof(header));
  assert_int_equal(cg_segment_header_decode(bytes, sizeof(bytes) - 1, &decoded, &err), CG_ECORRUPT);
  for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(cg_segment_header_decode(bytes, sizeof(bytes), &decoded, &err), CG_ECORRUPT);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
}

/* Makes a finished commit of `record_count` samples in `buf`. */
static uint32_t make_commit(struct cg_buf *buf, uint32_t record_count) {
  static const uint8_t blank[CG_COMMIT_HEADER_BYTES] = {0};
  buf->size = 0;
  cg_buf_append(buf, blank, CG_COMMIT_HEADER_BYTES);
  for (uint32_t index = 0; index < record_count; index++)
    cg_record_append(buf, &sample);
  cg_buf_append(buf, blank, CG_COMMIT_END_BYTES);
  struct cg_commit_header header = {.size = (uint32_t)buf->size,
                                    .record_count = record_count,
                                    .first_position = 50,
                                    .durable_position = 40,
                                    .time_ms = 1700000000000,
                                    .chain = 77};
  return cg_commit_finish(buf->data, &header, NONCE);
}

static void test_a_commit_comes_back_and_every_bit_counts(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  for (uint32_t record_count = 0; record_count < 4; record_count++) {
    struct cg_commit_header header;
    struct cg_err err;
    uint32_t check, made = make_commit(buf, record_count);
    assert_memory_equal(buf->data, "CGC1", 4);
    assert_memory_equal(buf->data + buf->size - 8, "CGE1", 4);
    assert_int_equal(cg_commit_check(buf->data, buf->size, NONCE, &header, &check, &err), CG_OK);
    assert_int_equal(check, made);
    assert_int_equal(header.size, buf->size);
    assert_int_equal(header.record_count, record_count);
    assert_int_equal(header.first_position, 50);
    assert_int_equal(header.durable_position, 40);
    assert_int_equal(header.time_ms, 1700000000000);
    assert_int_equal(header.chain, 77);
    assert_int_equal(cg_commit_check(buf->data, buf->size, NONCE + 1, &header, &check, &err),
                     CG_ECORRUPT);
    for (size_t cut = 0; cut < buf->size; cut++)
      assert_int_equal(cg_commit_check(buf->data, cut, NONCE, &header, &check, &err), CG_ECORRUPT);
    for (size_t bit = 0; bit < buf->size * 8; bit++) {
      buf->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
      assert_int_equal(cg_commit_check(buf->data, buf->size, NONCE, &header, &check, &err),
                       CG_ECORRUPT);
      buf->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
  }
  cg_buf_unref(buf);
}

/* The check covers the header's CRC and every record's, in order. */
static void test_the_check_of_a_commit_is_the_crc_of_its_crcs(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  uint32_t made = make_commit(buf, 2);
  uint8_t crcs[12];
  memcpy(crcs, buf->data + 44, 4);
  memcpy(crcs + 4, buf->data + 48 + 4, 4);
  memcpy(crcs + 8, buf->data + 48 + 88 + 4, 4);
  assert_int_equal(made, cg_crc32c(NONCE, crcs, sizeof(crcs)));
  assert_int_equal(cg_record_crc(buf->data + 48, 88, NONCE), cg_record_stored_crc(buf->data + 48));
  assert_int_equal(cg_record_crc(buf->data + 48, 88, NONCE),
                   cg_crc32c(NONCE, buf->data + 48 + 8, 80));
  cg_buf_unref(buf);
}

/* Makes a commit of one record and one hole in `buf`; returns its check's code. */
static enum cg_code check_holes(struct cg_buf *buf, const struct cg_record *hole,
                                uint32_t gap_count) {
  struct cg_record kept = {.data = (const uint8_t *)"abc", .data_size = 3};
  buf->size = 0;
  cg_buf_room(buf, CG_COMMIT_HEADER_BYTES);
  buf->size = CG_COMMIT_HEADER_BYTES;
  cg_record_append(buf, &kept);
  cg_record_append(buf, hole);
  cg_buf_room(buf, CG_COMMIT_END_BYTES);
  buf->size += CG_COMMIT_END_BYTES;
  struct cg_commit_header header = {
      .size = (uint32_t)buf->size, .record_count = 2, .gap_count = gap_count, .first_position = 10};
  cg_commit_finish(buf->data, &header, 3);
  uint32_t check;
  enum cg_code code = cg_commit_check(buf->data, buf->size, 3, &header, &check, NULL);
  if (code == CG_OK) {
    assert_int_equal(header.hole_count, 1);
    assert_int_equal(cg_commit_end_position(&header), 10 + 1 + hole->version);
  }
  return code;
}

static void test_holes_must_fit_the_header_of_their_commit(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  struct cg_record hole = {.version = 7, .flags = CG_RECORD_HOLE};
  assert_int_equal(check_holes(buf, &hole, 6), CG_OK);
  assert_int_equal(check_holes(buf, &hole, 5), CG_ECORRUPT);
  assert_int_equal(check_holes(buf, &hole, 0), CG_ECORRUPT);
  const uint8_t *bytes = buf->data + buf->size - CG_COMMIT_END_BYTES - CG_RECORD_HEADER_BYTES;
  assert_int_equal(cg_record_fit(bytes, CG_RECORD_HEADER_BYTES), 0); /* Nobody may append one. */
  hole.version = 1;
  assert_int_equal(check_holes(buf, &hole, 0), CG_OK);
  hole.version = 0;
  assert_int_equal(check_holes(buf, &hole, UINT32_MAX), CG_ECORRUPT);
  hole.version = (uint64_t)UINT32_MAX + 1;
  assert_int_equal(check_holes(buf, &hole, UINT32_MAX), CG_ECORRUPT);
  hole.version = 7;
  hole.flags |= CG_RECORD_JOURNAL;
  assert_int_equal(check_holes(buf, &hole, 6), CG_ECORRUPT);
  hole.flags = CG_RECORD_HOLE;
  hole.stream = "a";
  hole.stream_size = 1;
  assert_int_equal(check_holes(buf, &hole, 6), CG_ECORRUPT);
  cg_buf_unref(buf);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_record_comes_back_as_it_went_in),
      cmocka_unit_test(test_the_bytes_of_a_record_are_those_of_the_table),
      cmocka_unit_test(test_data_can_be_produced_in_place),
      cmocka_unit_test(test_a_record_whose_sizes_do_not_fit_is_refused),
      cmocka_unit_test(test_names_over_their_bounds_are_refused),
      cmocka_unit_test(test_a_segment_header_comes_back_and_every_bit_counts),
      cmocka_unit_test(test_a_commit_comes_back_and_every_bit_counts),
      cmocka_unit_test(test_the_check_of_a_commit_is_the_crc_of_its_crcs),
      cmocka_unit_test(test_holes_must_fit_the_header_of_their_commit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
