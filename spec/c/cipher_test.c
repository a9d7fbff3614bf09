/* cipher_test.c - AES-256-GCM against a published vector, SHA-256, and damage of every bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/cipher.h"

static struct cg_cipher *cipher;

static int setup(void **state) {
  (void)state;
  struct cg_err err;
  return cg_cipher_open(&cipher, &err) == CG_OK ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  cg_cipher_close(cipher);
  return 0;
}

static size_t from_hex(const char *text, uint8_t *bytes) {
  size_t size = strlen(text) / 2;
  for (size_t i = 0; i < size; i++) {
    unsigned value;
    assert_int_equal(sscanf(text + 2 * i, "%2x", &value), 1);
    bytes[i] = (uint8_t)value;
  }
  return size;
}

/* Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega). */
struct vector {
  uint8_t key[CG_CIPHER_KEY_BYTES];     /* K */
  uint8_t nonce[CG_CIPHER_NONCE_BYTES]; /* IV */
  uint8_t bound[64];                    /* A */
  uint8_t plain[64];                    /* P */
  uint8_t sealed[64];                   /* C */
  uint8_t tag[CG_CIPHER_TAG_BYTES];     /* T */
  size_t bound_size;                    /* Bytes of bound. */
  size_t size;                          /* Bytes of plain and sealed. */
};

static struct vector vector_of(void) {
  struct vector vector;
  from_hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", vector.key);
  from_hex("cafebabefacedbaddecaf888", vector.nonce);
  vector.bound_size = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2", vector.bound);
  vector.size = from_hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                         "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
                         vector.plain);
  from_hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
           "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
           vector.sealed);
  from_hex("76fc6ece0f4e1768cddf8853bb2d551b", vector.tag);
  return vector;
}

static enum cg_code unseal(const struct vector *vector, uint8_t *out) {
  struct cg_cipher_text text = {.bound = vector->bound,
                                .bound_size = vector->bound_size,
                                .bytes = vector->sealed,
                                .size = vector->size};
  return cg_cipher_unseal(cipher, vector->key, vector->nonce, &text, out, vector->tag, NULL);
}

static void test_published_vector(void **state) {
  (void)state;
  struct vector vector = vector_of();
  struct cg_cipher_text text = {.bound = vector.bound,
                                .bound_size = vector.bound_size,
                                .bytes = vector.plain,
                                .size = vector.size};
  uint8_t out[64], tag[CG_CIPHER_TAG_BYTES];
  for (int i = 0; i < 2; i++) { /* The context is used again. */
    assert_int_equal(cg_cipher_seal(cipher, vector.key, vector.nonce, &text, out, tag, NULL),
                     CG_OK);
    assert_memory_equal(out, vector.sealed, vector.size);
    assert_memory_equal(tag, vector.tag, sizeof(tag));
    assert_int_equal(unseal(&vector, out), CG_OK);
    assert_memory_equal(out, vector.plain, vector.size);
  }
}

/* Flips each bit of a part of the vector; none may pass, and no plain text may be left. */
static void flip_all(struct vector *vector, uint8_t *part, size_t size) {
  static const uint8_t zeros[64];
  uint8_t out[64];
  for (size_t bit = 0; bit < 8 * size; bit++) {
    part[bit / 8] ^= (uint8_t)(1u << bit % 8);
    memset(out, 0xff, sizeof(out));
    assert_int_equal(unseal(vector, out), CG_ECORRUPT);
    assert_memory_equal(out, zeros, vector->size);
    part[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  assert_int_equal(unseal(vector, out), CG_OK);
}

static void test_every_bit_counts(void **state) {
  (void)state;
  struct vector vector = vector_of();
  flip_all(&vector, vector.key, sizeof(vector.key));
  flip_all(&vector, vector.nonce, sizeof(vector.nonce));
  flip_all(&vector, vector.bound, vector.bound_size);
  flip_all(&vector, vector.sealed, vector.size);
  flip_all(&vector, vector.tag, sizeof(vector.tag));
}

static void test_nothing_is_a_text(void **state) {
  (void)state;
  struct vector vector = vector_of();
  struct cg_cipher_text text = {.bound = NULL};
  uint8_t tag[CG_CIPHER_TAG_BYTES];
  assert_int_equal(cg_cipher_seal(cipher, vector.key, vector.nonce, &text, NULL, tag, NULL), CG_OK);
  assert_int_equal(cg_cipher_unseal(cipher, vector.key, vector.nonce, &text, NULL, tag, NULL),
                   CG_OK);
  tag[0] ^= 1;
  assert_int_equal(cg_cipher_unseal(cipher, vector.key, vector.nonce, &text, NULL, tag, NULL),
                   CG_ECORRUPT);
}

static void test_digest(void **state) {
  (void)state;
  uint8_t expected[CG_CIPHER_DIGEST_BYTES], digest[CG_CIPHER_DIGEST_BYTES];
  from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", expected);
  assert_int_equal(cg_cipher_digest(cipher, "a", 1, "bc", 2, digest, NULL), CG_OK);
  assert_memory_equal(digest, expected, sizeof(digest));
  assert_int_equal(cg_cipher_digest(cipher, "abc", 3, NULL, 0, digest, NULL), CG_OK);
  assert_memory_equal(digest, expected, sizeof(digest));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_published_vector),
      cmocka_unit_test(test_every_bit_counts),
      cmocka_unit_test(test_nothing_is_a_text),
      cmocka_unit_test(test_digest),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
