/* log_blocks_test.c - compressed segments: read by place and in order through few cached blocks,
 * and what damage of a block, the table or the length of the file does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "log/blocks.h"
#include "log/tools.h"
#include "support/rewrite_world.h"

#define PATH "/log/segment-0000000000.log"

/* Compresses or decompresses a segment, keeping all, and puts it in place. */
static void repack(struct rewrite_world *world, uint32_t number, bool is_compressing) {
  struct cg_err err;
  struct cg_log_seal seal = rewrite_world_seal(world, number);
  struct cg_log_rewrite asked = {.compress = is_compressing};
  if (cg_log_rewrite("/log", sim_fs_calls(world->sim), &seal, &asked, &err) != CG_OK ||
      cg_log_replace(world->log, &seal, &err) != CG_OK)
    fail_msg("%s", err.message);
}

/* Compresses all sealed segments of a new world with so many. */
static void begin_compressed(struct rewrite_world *world, uint64_t seed, uint32_t count) {
  rewrite_world_begin(world, seed, count, KEEP_ALL, true);
  for (uint32_t number = 0; number < count; number++)
    repack(world, number, true);
}

static void test_random_reads_of_many_compressed_segments(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_record record;
  struct cg_err err;
  begin_compressed(&world, 1, 6); /* More blocks than are cached, more files than may be open. */
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  for (int count = 0; count < 5000; count++) {
    const struct log_model_commit *commit =
        &world.model.commits[sim_fs_random(world.sim, world.model.count)];
    if (cg_log_read(world.log, commit->place, buf, &record, &err) != CG_OK)
      fail_msg("%s", err.message);
    record.position = commit->first_position;
    assert_true(log_model_matches(commit, &record));
    if (cg_log_cursor_next(cursor, UINT64_MAX, &record, &err) == CG_OK)
      assert_true(log_model_matches(log_model_find(&world.model, record.position), &record));
  }
  cg_log_cursor_free(cursor);
  cg_buf_unref(buf);
  rewrite_world_end(&world);
}

static void test_places_are_those_of_the_plain_segment(void **state) {
  (void)state;
  struct rewrite_world world;
  begin_compressed(&world, 2, 2);
  assert_null(log_model_compare(&world.model, world.log)); /* By the places of the appends. */
  assert_true(rewrite_world_file_size(&world, 1) < world.options.segment_bytes);
  repack(&world, 1, false); /* And back. */
  assert_null(log_model_compare(&world.model, world.log));
  rewrite_world_leave(&world);
  assert_int_equal(rewrite_world_open(&world, NULL), CG_OK);
  assert_null(world.fault);
  assert_null(log_model_compare(&world.model, world.log));
  rewrite_world_end(&world);
}

/* Where the frame of a block lies in the file. */
static uint8_t *frame_of(struct rewrite_world *world, uint32_t index) {
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world->sim, PATH, &size);
  struct cg_segment_header header;
  assert_int_equal(cg_segment_header_decode(bytes, size, &header, NULL), CG_OK);
  uint32_t offset;
  memcpy(&offset, bytes + header.table_offset + 16 + (size_t)index * 4, 4);
  return bytes + (size_t)offset * 8 + 8;
}

static void keep_line(void *arg, bool is_fault, const char *line) {
  if (is_fault)
    snprintf(arg, 256, "%s", line);
}

static void test_a_damaged_block_takes_only_its_own_records_along(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_record record;
  struct cg_err err;
  begin_compressed(&world, 3, 1);
  rewrite_world_leave(&world);
  frame_of(&world, 1)[20] ^= 1;
  world.options.resume = NULL;
  assert_int_equal(rewrite_world_open(&world, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000000.log: offset "));
  if (!strstr(err.message, "block 1 is damaged"))
    fail_msg("%s", err.message);
  sim_fs_kill(world.sim);

  char fault[256] = "";
  struct cg_log_verify verify = {.report = keep_line, .arg = fault};
  assert_int_equal(cg_log_verify("/log", sim_fs_calls(world.sim), &verify, NULL), CG_ECORRUPT);
  assert_int_equal(verify.counts.fault_count, 1);
  assert_non_null(strstr(fault, "block 1 is damaged"));
  uint64_t all_count = verify.counts.end_position - 1;
  uint64_t lost_count = all_count - verify.counts.record_count;
  assert_in_range(lost_count, 1, all_count / 2); /* Of four blocks and the last segment. */
  frame_of(&world, 1)[20] ^= 1;
  assert_int_equal(rewrite_world_open(&world, &err), CG_OK);

  /* Damaged while it is open: what is in other blocks can still be read. */
  frame_of(&world, 2)[20] ^= 1;
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  enum cg_code code;
  uint64_t position = 1;
  while ((code = cg_log_cursor_next(cursor, UINT64_MAX, &record, &err)) == CG_OK)
    assert_int_equal(record.position, position++);
  assert_int_equal(code, CG_ECORRUPT);
  const struct log_model_commit *commit = log_model_find(&world.model, position);
  uint64_t offset = (commit->place & UINT32_MAX) * 8;
  assert_in_range(offset, CG_BLOCK_BYTES, 3 * CG_BLOCK_BYTES + CG_SEGMENT_HEADER_BYTES);
  cg_log_cursor_free(cursor);
  rewrite_world_end(&world);
}

static void test_a_file_of_another_length_is_refused(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_err err;
  begin_compressed(&world, 4, 1);
  rewrite_world_leave(&world);
  size_t size;
  const uint8_t *bytes = sim_fs_bytes(world.sim, PATH, &size);
  uint8_t *copy = malloc(size + 8);
  assert_non_null(copy);
  memcpy(copy, bytes, size);
  memset(copy + size, 0, 8);
  const size_t sizes[] = {size - 1, size - 4, size / 2, CG_SEGMENT_HEADER_BYTES,
                          size + 1, size + 8};
  for (size_t index = 0; index < sizeof(sizes) / sizeof(*sizes); index++) {
    sim_fs_put(world.sim, PATH, copy, sizes[index]);
    assert_int_equal(rewrite_world_open(&world, &err), CG_ECORRUPT);
    sim_fs_kill(world.sim);
  }
  sim_fs_put(world.sim, PATH, copy, size);
  assert_int_equal(rewrite_world_open(&world, &err), CG_OK);
  free(copy);
  rewrite_world_end(&world);
}

static void test_the_level_is_checked_and_matters(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_err err;
  size_t sizes[2], index = 0;
  rewrite_world_begin(&world, 5, 1, KEEP_ALL, true);
  for (int level = -1; level <= 20; level++) {
    struct cg_log_seal seal = rewrite_world_seal(&world, 0);
    struct cg_log_rewrite asked = {.compress = true, .level = level};
    bool is_right = level >= 0 && level <= CG_ZSTD_LEVEL_MAX;
    assert_int_equal(cg_log_rewrite("/log", sim_fs_calls(world.sim), &seal, &asked, &err),
                     is_right ? CG_OK : CG_EINVAL);
    if (level == 1 || level == 19) {
      assert_int_equal(cg_log_replace(world.log, &seal, &err), CG_OK);
      sizes[index++] = rewrite_world_file_size(&world, 0);
    }
  }
  assert_true(sizes[1] < sizes[0]);
  rewrite_world_expect_kept(&world);
  rewrite_world_end(&world);
}

static void test_a_block_of_the_file_before_is_not_taken_for_one_of_the_new_file(void **state) {
  (void)state;
  struct rewrite_world world;
  rewrite_world_begin(&world, 6, 1, KEEP_ALL, true);
  static const enum keeping order[] = {KEEP_ALL, KEEP_HALF};
  for (size_t index = 0; index < 2; index++) {
    world.keeping = order[index];
    rewrite_world_replace(&world, 0);
    struct cg_log_seal seal = rewrite_world_seal(&world, 0);
    rewrite_world_expect_places(&world, &seal); /* All its blocks are cached then. */
  }
  rewrite_world_end(&world);
}

/* --- blocks alone --- */

#define SMALL_BYTES (2 * CG_BLOCK_BYTES + 1000) /* Of three blocks. */

/* Reads all of a file; what comes must be `bytes`. False: it was refused. */
static bool read_file(const struct cg_fs *fs, const struct cg_segment_header *header,
                      const uint8_t *bytes) {
  static uint8_t back[SMALL_BYTES];
  struct cg_block_table *table;
  int handle = fs->open(fs->arg, "/file", CG_FS_READ);
  int64_t file_bytes = fs->size(fs->arg, handle);
  bool is_read =
      cg_block_table_load(&table, fs, handle, header, (uint64_t)file_bytes, NULL) == CG_OK;
  if (is_read) {
    struct cg_block_cache *cache = cg_block_cache_new(1);
    struct cg_block_source source = {fs, handle, header, table};
    size_t count = 0, done = 0;
    while (is_read && done < SMALL_BYTES) {
      is_read = cg_blocks_read(cache, &source, back, 50000, CG_SEGMENT_HEADER_BYTES + done, &count,
                               NULL) == CG_OK;
      if (is_read)
        assert_memory_equal(back, bytes + done, count);
      assert_true(!is_read || count > 0);
      done += count;
    }
    assert_int_equal(!is_read || done == SMALL_BYTES, true);
    cg_block_cache_free(cache);
    cg_free(table);
  }
  fs->close(fs->arg, handle);
  return is_read;
}

static void test_every_flipped_bit_of_blocks_and_table_is_noticed_by_themselves(void **state) {
  (void)state;
  static uint8_t bytes[SMALL_BYTES];
  for (size_t at = 0; at < sizeof(bytes); at++)
    bytes[at] = (uint8_t)(at / 256 + (at % 3000 == 0 ? at : 0));
  struct sim_fs *sim = sim_fs_new(1);
  struct cg_block_packer packer;
  struct cg_buf *file = cg_buf_take(NULL, SMALL_BYTES);
  uint8_t zeros[CG_SEGMENT_HEADER_BYTES] = {0};
  cg_block_packer_init(&packer, 0, 77);
  cg_buf_append(file, zeros, sizeof(zeros));
  for (size_t at = 0; at < SMALL_BYTES; at += CG_BLOCK_BYTES) {
    size_t size = SMALL_BYTES - at < CG_BLOCK_BYTES ? SMALL_BYTES - at : CG_BLOCK_BYTES;
    assert_int_equal(cg_block_packer_add(&packer, bytes + at, size, NULL), CG_OK);
    cg_buf_append(file, packer.packed->data, packer.packed->size);
  }
  struct cg_segment_header header = {
      .nonce = 77, .segment_bytes = 1 << 20, .table_offset = packer.offset};
  cg_block_packer_table(&packer);
  cg_buf_append(file, packer.table->data, packer.table->size);
  sim_fs_put(sim, "/file", file->data, file->size);
  const struct cg_fs *fs = sim_fs_calls(sim);
  assert_true(read_file(fs, &header, bytes));
  size_t size;
  uint8_t *stored = sim_fs_bytes(sim, "/file", &size);
  for (size_t bit = CG_SEGMENT_HEADER_BYTES * 8; bit < size * 8; bit++) {
    stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (read_file(fs, &header, bytes))
      fail_msg("bit %zu was not noticed", bit);
    stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  header.nonce++; /* Of another file. */
  assert_false(read_file(fs, &header, bytes));
  cg_buf_unref(file);
  cg_block_packer_deinit(&packer);
  sim_fs_free(sim);
}

/* Whether a table, its CRC made right, is taken. */
static bool is_table_taken(const uint8_t *table, size_t size) {
  enum { OFFSET = 8000 }; /* Where it stands. */
  uint8_t file[OFFSET + 64] = {0};
  memcpy(file + OFFSET, table, size);
  uint32_t crc = cg_crc32c(77, table, size - 4);
  memcpy(file + OFFSET + size - 4, &crc, 4);
  struct sim_fs *sim = sim_fs_new(1);
  const struct cg_fs *fs = sim_fs_calls(sim);
  sim_fs_put(sim, "/file", file, OFFSET + size);
  struct cg_segment_header header = {.nonce = 77, .segment_bytes = 1 << 20, .table_offset = OFFSET};
  struct cg_block_table *read = NULL;
  int handle = fs->open(fs->arg, "/file", CG_FS_READ);
  struct cg_err err;
  enum cg_code code = cg_block_table_load(&read, fs, handle, &header, OFFSET + size, &err);
  assert_true(code == CG_OK || code == CG_ECORRUPT);
  if (code != CG_OK)
    assert_null(strstr(err.message, "CRC"));
  cg_free(read);
  sim_fs_free(sim);
  return code == CG_OK;
}

static void test_a_table_that_does_not_fit_is_refused_although_its_crc_is_right(void **state) {
  (void)state;
  /* Two blocks of a segment that ends at 80,000. */
  uint8_t table[64] = "CGT1";
  const uint32_t words[] = {2, 80000, 0, CG_SEGMENT_HEADER_BYTES / 8, 600};
  memcpy(table + 4, words, sizeof(words));
  for (size_t size = 20; size <= 40; size += 4) /* More or fewer offsets than blocks. */
    assert_int_equal(is_table_taken(table, size), size == 28);
  static const struct {
    size_t offset;  /* Where. */
    uint32_t value; /* What is put there. */
  } wrong[] = {{4, 1},  {4, 3},    {4, UINT32_MAX}, {8, 4095}, {8, (1 << 20) + 1},
               {12, 1}, {16, 511}, {20, 512},       {20, 1000}};
  for (size_t index = 0; index < sizeof(wrong) / sizeof(*wrong); index++) {
    uint8_t copy[28];
    memcpy(copy, table, sizeof(copy));
    memcpy(copy + wrong[index].offset, &wrong[index].value, 4);
    assert_false(is_table_taken(copy, sizeof(copy)));
  }
}

/* Bytes that do not become smaller. */
static void test_what_cannot_be_compressed_is_stored_all_the_same(void **state) {
  (void)state;
  struct cg_block_packer packer;
  struct cg_zstd zstd = {0};
  uint8_t bytes[CG_BLOCK_BYTES], back[CG_BLOCK_BYTES];
  uint64_t random = 1;
  for (size_t at = 0; at < sizeof(bytes); at++) {
    random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
    bytes[at] = (uint8_t)(random >> 56);
  }
  cg_block_packer_init(&packer, 0, 7);
  assert_int_equal(cg_block_packer_add(&packer, bytes, sizeof(bytes), NULL), CG_OK);
  assert_true(packer.packed->size > sizeof(bytes));
  uint32_t frame_size;
  memcpy(&frame_size, packer.packed->data, 4);
  const uint8_t *frame = packer.packed->data + 8;
  assert_int_equal(cg_zstd_decompress(&zstd, frame, frame_size, back, sizeof(back), NULL), CG_OK);
  assert_memory_equal(bytes, back, sizeof(back));
  assert_int_equal(cg_zstd_decompress(&zstd, frame, frame_size, back, sizeof(back) - 1, NULL),
                   CG_ECORRUPT);
  assert_int_equal(cg_zstd_decompress(&zstd, frame, frame_size - 1, back, sizeof(back), NULL),
                   CG_ECORRUPT);
  cg_zstd_close(&zstd);
  cg_block_packer_deinit(&packer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_reads_of_many_compressed_segments),
      cmocka_unit_test(test_places_are_those_of_the_plain_segment),
      cmocka_unit_test(test_a_damaged_block_takes_only_its_own_records_along),
      cmocka_unit_test(test_a_file_of_another_length_is_refused),
      cmocka_unit_test(test_the_level_is_checked_and_matters),
      cmocka_unit_test(test_a_block_of_the_file_before_is_not_taken_for_one_of_the_new_file),
      cmocka_unit_test(test_every_flipped_bit_of_blocks_and_table_is_noticed_by_themselves),
      cmocka_unit_test(test_a_table_that_does_not_fit_is_refused_although_its_crc_is_right),
      cmocka_unit_test(test_what_cannot_be_compressed_is_stored_all_the_same),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
