/* crc32c_test.c - CRC32C: published vectors, and three ways to compute it agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"

#define BYTES_MAX 4096

/* The definition, bit by bit. */
static uint32_t crc32c_bitwise(uint32_t crc, const uint8_t *bytes, size_t size) {
  crc = ~crc;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++)
      crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

static uint64_t next_random(uint64_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  *seed ^= *seed << 17;
  return *seed;
}

static void check_vector(const void *bytes, size_t size, uint32_t expected) {
  assert_int_equal(cg_crc32c(0, bytes, size), expected);
  assert_int_equal(cg_crc32c_software(0, bytes, size), expected);
}

/* RFC 3720, appendix B.4, and the customary check value. */
static void test_published_vectors(void **state) {
  (void)state;
  uint8_t bytes[32];
  check_vector("123456789", 9, 0xE3069283);
  check_vector(NULL, 0, 0);
  memset(bytes, 0, 32);
  check_vector(bytes, 32, 0x8A9136AA);
  memset(bytes, 0xFF, 32);
  check_vector(bytes, 32, 0x62A8AB43);
  for (uint8_t i = 0; i < 32; i++)
    bytes[i] = i;
  check_vector(bytes, 32, 0x46DD794E);
  for (uint8_t i = 0; i < 32; i++)
    bytes[i] = 31 - i;
  check_vector(bytes, 32, 0x113FDB5C);
  const uint8_t iscsi_read[48] = {0x01, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
                                  0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
                                  0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0};
  check_vector(iscsi_read, 48, 0xD9963A56);
}

static void test_all_ways_agree_at_any_size_and_alignment(void **state) {
  (void)state;
  uint64_t seed = 0x1234567;
  uint8_t *bytes = malloc(BYTES_MAX + 16);
  for (size_t i = 0; i < BYTES_MAX + 16; i++)
    bytes[i] = (uint8_t)next_random(&seed);

  for (size_t round = 0; round < 3000; round++) {
    size_t offset = next_random(&seed) % 16;
    size_t size = round < 600 ? round : next_random(&seed) % BYTES_MAX;
    uint32_t salt = (uint32_t)next_random(&seed);
    uint32_t expected = crc32c_bitwise(salt, bytes + offset, size);
    assert_int_equal(cg_crc32c_software(salt, bytes + offset, size), expected);
    assert_int_equal(cg_crc32c(salt, bytes + offset, size), expected);
  }
  free(bytes);
}

static void test_parts_chain_to_the_whole(void **state) {
  (void)state;
  const char *text = "The quick brown fox jumps over the lazy dog.";
  size_t size = strlen(text);
  uint32_t whole = cg_crc32c(0, text, size);
  for (size_t cut = 0; cut <= size; cut++) {
    assert_int_equal(cg_crc32c(cg_crc32c(0, text, cut), text + cut, size - cut), whole);
    assert_int_equal(cg_crc32c_software(cg_crc32c_software(0, text, cut), text + cut, size - cut),
                     whole);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_published_vectors),
      cmocka_unit_test(test_all_ways_agree_at_any_size_and_alignment),
      cmocka_unit_test(test_parts_chain_to_the_whole),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
