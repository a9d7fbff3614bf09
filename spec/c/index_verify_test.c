/* index_verify_test.c - cg_index_verify compares every entry of the index with its record, and
 * names what is damaged, wrong, superfluous or of another log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "store/table.h"
#include "support/index_world.h"

#define SEALS 5

/* A closed store and what was said of its index. */
struct said {
  struct index_world *world;     /* The store. */
  struct cg_index_verify verify; /* The last check. */
  char fault[768];               /* The first fault. */
  char note[768];                /* The first other line. */
  char table[128];               /* Path of one table. */
};

static struct said said;

static void on_line(void *arg, bool is_fault, const char *line) {
  (void)arg;
  char *text = is_fault ? said.fault : said.note;
  if (*text == 0)
    snprintf(text, sizeof(said.fault), "%s", line);
}

static int take_name(void *arg, const char *name) {
  (void)arg;
  snprintf(said.table, sizeof(said.table), "/data/index/%s", name);
  return 0;
}

static int setup(void **state) {
  (void)state;
  said = (struct said){.world = index_world_new(3)};
  index_world_fill(said.world, SEALS);
  index_world_sync(said.world);
  index_world_turn(said.world);
  index_world_close(said.world);
  index_world_each_table(said.world, take_name, NULL);
  assert_int_not_equal(said.table[0], 0);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  index_world_free(said.world);
  return 0;
}

static enum cg_code verify(void) {
  said.fault[0] = said.note[0] = 0;
  said.verify = (struct cg_index_verify){.report = on_line};
  return cg_index_verify("/data", sim_fs_calls(said.world->sim), &said.verify, NULL);
}

/* A table's bytes, and its header. */
static uint8_t *bytes_of(struct cg_table_header *header, struct cg_table_layout *layout) {
  size_t size;
  uint8_t *bytes = sim_fs_bytes(said.world->sim, said.table, &size);
  memcpy(header, bytes, sizeof(*header));
  assert_true(cg_table_lay_out(header, layout));
  assert_int_equal(layout->end, size);
  return bytes;
}

/* Gives a table right checks for the bytes that it has. */
static void seal_table(void) {
  struct cg_table_header header;
  struct cg_table_layout layout;
  uint8_t *bytes = bytes_of(&header, &layout);
  for (uint64_t page = 1; page <= layout.check_count; page++) {
    uint32_t crc = cg_table_page_crc(page, bytes + page * CG_TABLE_PAGE_BYTES);
    memcpy(bytes + layout.checks + (page - 1) * sizeof(crc), &crc, sizeof(crc));
  }
  header.checks_crc = cg_crc32c(0, bytes + layout.checks, layout.check_count * sizeof(uint32_t));
  header.crc = cg_crc32c(0, &header, offsetof(struct cg_table_header, crc));
  memcpy(bytes, &header, sizeof(header));
}

static void test_a_good_index_has_no_faults(void **state) {
  (void)state;
  assert_int_equal(verify(), CG_OK);
  assert_true(said.verify.table_count > 0);
  assert_true(said.verify.entry_count > 100);
  assert_int_equal(said.verify.fault_count, 0);
  assert_int_equal(said.note[0], 0);
  seal_table(); /* The test's own checks are those of the table. */
  assert_int_equal(verify(), CG_OK);
}

static void test_a_flipped_bit_is_named(void **state) {
  (void)state;
  struct cg_table_header header;
  struct cg_table_layout layout;
  bytes_of(&header, &layout)[layout.units + 40] ^= 1;
  assert_int_equal(verify(), CG_ECORRUPT);
  assert_non_null(strstr(said.fault, "index/table-"));
  bytes_of(&header, &layout)[layout.units + 40] ^= 1;
  bytes_of(&header, &layout)[40] ^= 1; /* Its header. */
  assert_int_equal(verify(), CG_ECORRUPT);
}

static void test_an_entry_with_another_place_is_named(void **state) {
  (void)state;
  struct cg_table_header header;
  struct cg_table_layout layout;
  struct cg_table_unit unit;
  uint8_t *bytes = bytes_of(&header, &layout);
  memcpy(&unit, bytes + layout.units, sizeof(unit));
  unit.offset++;
  memcpy(bytes + layout.units, &unit, sizeof(unit));
  seal_table();
  assert_int_equal(verify(), CG_ECORRUPT);
  assert_int_equal(said.verify.fault_count, 1 + 1); /* And an entry without a record. */
  assert_non_null(strstr(said.fault, "wrong entry for version"));
}

static void test_a_stream_without_its_last_entry_is_named(void **state) {
  (void)state;
  struct cg_table_header header;
  struct cg_table_layout layout;
  struct cg_table_stream stream;
  uint8_t *bytes = bytes_of(&header, &layout);
  uint64_t at = layout.streams;
  memcpy(&stream, bytes + at, sizeof(stream));
  for (; stream.entry_count < 2; at += sizeof(stream))
    memcpy(&stream, bytes + at + sizeof(stream), sizeof(stream));
  stream.entry_count--;
  stream.last_version--;
  memcpy(bytes + at, &stream, sizeof(stream));
  seal_table();
  assert_int_equal(verify(), CG_ECORRUPT);
  assert_int_not_equal(said.fault[0], 0);
}

static void test_a_table_of_another_log_is_told_and_is_no_fault(void **state) {
  (void)state;
  struct cg_table_header header;
  struct cg_table_layout layout;
  uint8_t *bytes = bytes_of(&header, &layout);
  header.log_id[3] ^= 1;
  memcpy(bytes, &header, sizeof(header));
  seal_table();
  assert_int_equal(verify(), CG_OK);
  assert_non_null(strstr(said.note, "built again"));
}

static void test_no_index_is_no_fault(void **state) {
  (void)state;
  assert_int_equal(cg_index_verify("/none", sim_fs_calls(said.world->sim), &said.verify, NULL),
                   CG_ENOTFOUND);
  sim_fs_remove(said.world->sim, said.table);
  assert_int_equal(verify(), CG_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_a_good_index_has_no_faults, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_flipped_bit_is_named, setup, teardown),
      cmocka_unit_test_setup_teardown(test_an_entry_with_another_place_is_named, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_stream_without_its_last_entry_is_named, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(test_a_table_of_another_log_is_told_and_is_no_fault, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(test_no_index_is_no_fault, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
