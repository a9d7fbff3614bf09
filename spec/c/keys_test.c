/* keys_test.c - keys of subjects: made, kept, destroyed; crashes at every call; damage; master
 * keys. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/keys.h"
#include "support/sim_fs.h"

#define DIRECTORY "/data"
#define FILE_PATH "/data/keys"
#define HEADER_BYTES 4096
#define SLOT_BYTES 256
#define KEY_OFFSET 76

static struct sim_fs *sim;
static struct cg_keys *keys;
static struct cg_err err;
static uint8_t master_one[CG_KEYS_MASTER_BYTES] = {1};
static uint8_t master_two[CG_KEYS_MASTER_BYTES] = {2};

static int setup(void **state) {
  (void)state;
  sim = sim_fs_new(1);
  sim_fs_put_directory(sim, DIRECTORY);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  cg_keys_close(keys);
  keys = NULL;
  sim_fs_free(sim);
  return 0;
}

static enum cg_code open_with(const uint8_t *master, const uint8_t *master_old) {
  cg_keys_close(keys);
  keys = NULL;
  struct cg_keys_options options = {.fs = sim_fs_calls(sim),
                                    .directory = DIRECTORY,
                                    .master = master,
                                    .master_old = master_old,
                                    .cached_max = 1};
  return cg_keys_open(&keys, &options, &err);
}

static void reopen(void) {
  assert_int_equal(open_with(NULL, NULL), CG_OK);
}

static enum cg_code write_pending(void) {
  struct cg_keys_batch *batch = cg_keys_batch_begin(keys);
  if (batch == NULL)
    return CG_OK;
  assert_null(cg_keys_batch_begin(keys)); /* One at a time. */
  cg_keys_batch_write(batch);
  return cg_keys_batch_end(keys, batch, &err);
}

static struct cg_keys_ref make(const char *subject) {
  struct cg_keys_ref ref;
  assert_int_equal(cg_keys_make(keys, subject, strlen(subject), 1000, &ref, &err), CG_OK);
  return ref;
}

static enum cg_code find(const char *subject, struct cg_keys_ref *ref) {
  return cg_keys_find(keys, subject, strlen(subject), ref, &err);
}

static struct cg_buf *seal(const struct cg_keys_ref *ref, const char *plain) {
  struct cg_buf *sealed = cg_buf_take(NULL, 0);
  assert_int_equal(cg_keys_seal(keys, ref, "bound", 5, plain, strlen(plain), sealed, &err), CG_OK);
  assert_int_equal(sealed->size, strlen(plain) + CG_KEYS_SEALED_BYTES_MORE);
  return sealed;
}

static enum cg_code unseal(const struct cg_keys_ref *ref, const struct cg_buf *sealed,
                           const char *plain) {
  struct cg_buf *out = cg_buf_take(NULL, 0);
  enum cg_code code = cg_keys_unseal(keys, ref, "bound", 5, sealed->data, sealed->size, out, &err);
  if (code == CG_OK) {
    assert_int_equal(out->size, strlen(plain));
    assert_memory_equal(out->data, plain, out->size);
  }
  cg_buf_unref(out);
  return code;
}

static void test_a_key_is_made_once_and_kept(void **state) {
  (void)state;
  struct cg_keys_ref found;
  reopen();
  assert_int_equal(find("ada", &found), CG_ENOTFOUND);
  struct cg_keys_ref ada = make("ada"), bob = make("bob"), again = make("ada");
  assert_memory_equal(&ada, &again, sizeof(ada));
  assert_int_equal(ada.number, 1);
  assert_int_equal(bob.number, 2);
  assert_int_equal(cg_keys_queued(keys), 2);
  assert_int_equal(cg_keys_durable(keys), 0);
  uint64_t syncs = sim_fs_sync_count(sim);
  assert_int_equal(write_pending(), CG_OK);
  assert_int_equal(sim_fs_sync_count(sim), syncs + 1); /* One for both. */
  assert_int_equal(cg_keys_durable(keys), 2);
  struct cg_buf *sealed = seal(&ada, "secret");
  reopen();
  assert_int_equal(find("ada", &found), CG_OK);
  assert_memory_equal(&found, &ada, sizeof(ada));
  assert_int_equal(unseal(&ada, sealed, "secret"), CG_OK);
  assert_int_equal(unseal(&bob, sealed, "secret"), CG_ECORRUPT); /* Another key. */
  cg_buf_unref(sealed);
}

static void test_a_forgotten_key_is_overwritten(void **state) {
  (void)state;
  reopen();
  struct cg_keys_ref ada = make("ada"), found;
  assert_int_equal(write_pending(), CG_OK);
  struct cg_buf *sealed = seal(&ada, "secret");
  uint8_t secret[32];
  size_t size;
  memcpy(secret, sim_fs_bytes(sim, FILE_PATH, &size) + HEADER_BYTES + KEY_OFFSET, sizeof(secret));
  assert_int_equal(cg_keys_forget(keys, &ada, NULL, 2000, &err), CG_OK);
  assert_int_equal(unseal(&ada, sealed, "secret"), CG_EFORGOTTEN); /* At once in memory. */
  assert_int_equal(write_pending(), CG_OK);
  const uint8_t *bytes = sim_fs_bytes(sim, FILE_PATH, &size);
  assert_null(memmem(bytes, size, secret, sizeof(secret)));
  assert_null(memmem(bytes, size, "ada", 3));
  reopen();
  assert_int_equal(unseal(&ada, sealed, "secret"), CG_EFORGOTTEN);
  assert_int_equal(find("ada", &found), CG_EFORGOTTEN);
  assert_memory_equal(&found, &ada, sizeof(ada));
  assert_int_equal(cg_keys_forget(keys, &ada, NULL, 3000, &err), CG_OK); /* Nothing to do. */
  assert_int_equal(cg_keys_queued(keys), 0);
  struct cg_keys_ref other = make("ada"); /* Another life. */
  assert_int_equal(other.number, 2);
  assert_int_equal(unseal(&other, sealed, "secret"), CG_ECORRUPT);
  cg_buf_unref(sealed);
}

static void test_the_cache_is_bounded_and_pending_keys_stay(void **state) {
  (void)state;
  enum { COUNT = 500 };
  struct cg_keys_ref refs[COUNT];
  struct cg_buf *sealed[COUNT];
  char subject[16];
  reopen();
  for (int i = 0; i < COUNT; i++) {
    snprintf(subject, sizeof(subject), "s%d", i);
    refs[i] = make(subject);
    sealed[i] = seal(&refs[i], subject);
    if (i == COUNT / 2)
      assert_int_equal(write_pending(), CG_OK);
  }
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < COUNT; i++) {
      snprintf(subject, sizeof(subject), "s%d", i);
      assert_int_equal(unseal(&refs[i], sealed[i], subject), CG_OK);
    }
    assert_int_equal(write_pending(), CG_OK);
    if (round == 1)
      reopen();
  }
  for (int i = 0; i < COUNT; i++)
    cg_buf_unref(sealed[i]);
}

static void test_refused(void **state) {
  (void)state;
  char text[CG_KEYS_SUBJECT_BYTES_MAX + 1];
  struct cg_keys_ref ref = {.number = 7, .tag = 7};
  memset(text, 'x', sizeof(text));
  reopen();
  assert_int_equal(cg_keys_make(keys, text, 0, 0, &ref, &err), CG_EINVAL);
  assert_int_equal(cg_keys_make(keys, text, sizeof(text), 0, &ref, &err), CG_EINVAL);
  assert_int_equal(cg_keys_make(keys, text, sizeof(text) - 1, 0, &ref, &err), CG_OK);
  ref.tag++;
  assert_int_equal(cg_keys_seal(keys, &ref, NULL, 0, "x", 1, NULL, &err), CG_ENOTFOUND);
  ref.number = 2;
  assert_int_equal(cg_keys_seal(keys, &ref, NULL, 0, "x", 1, NULL, &err), CG_ENOTFOUND);
  assert_int_equal(cg_keys_forget(keys, &ref, NULL, 0, &err), CG_ENOTFOUND);
  for (uint32_t i = 1; i < CG_KEYS_PENDING_MAX; i++) {
    snprintf(text, sizeof(text), "%u", i);
    make(text);
  }
  assert_int_equal(cg_keys_make(keys, "more", 4, 0, &ref, &err), CG_ELIMIT);
  assert_int_equal(write_pending(), CG_OK);
  make("more");
}

static void test_list(void **state) {
  (void)state;
  reopen();
  make("a");
  struct cg_keys_ref b = make("b");
  make("c");
  assert_int_equal(write_pending(), CG_OK);
  assert_int_equal(cg_keys_forget(keys, &b, NULL, 5, &err), CG_OK);
  struct cg_keys_info info;
  uint64_t cursor = 0;
  assert_int_equal(cg_keys_next(keys, &cursor, 10, &info, &err), CG_OK);
  assert_string_equal(info.subject, "a");
  assert_int_equal(info.time_ms, 1000);
  assert_int_equal(cg_keys_next(keys, &cursor, 10, &info, &err), CG_OK);
  assert_true(info.is_forgotten);
  assert_string_equal(info.subject, "");
  assert_int_equal(cg_keys_next(keys, &cursor, 10, &info, &err), CG_OK);
  assert_string_equal(info.subject, "c");
  assert_int_equal(cg_keys_next(keys, &cursor, 10, &info, &err), CG_END);
}

static void test_names_of_keys(void **state) {
  (void)state;
  struct cg_keys_ref ref = {.number = UINT64_MAX, .tag = 0xabc}, read;
  char text[CG_KEYS_REF_CHARS];
  cg_keys_ref_format(&ref, text);
  assert_string_equal(text, "18446744073709551615-0000000000000abc");
  assert_true(cg_keys_ref_parse(text, strlen(text), &read));
  assert_memory_equal(&read, &ref, sizeof(ref));
  static const char *const wrong[] = {"",
                                      "1",
                                      "1-",
                                      "-0000000000000abc",
                                      "1-abc",
                                      "01-0000000000000abc",
                                      "1-0000000000000ABC",
                                      "1-0000000000000abc ",
                                      " 1-0000000000000abc",
                                      "1-0000000000000abcd",
                                      "99999999999999999999-0000000000000abc"};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
    assert_false(cg_keys_ref_parse(wrong[i], strlen(wrong[i]), &read));
  assert_false(cg_keys_ref_parse("1-0000000000000abc\0", 19, &read));
}

static void test_a_full_disk_is_tried_again(void **state) {
  (void)state;
  reopen();
  struct cg_keys_ref ada = make("ada");
  struct cg_buf *sealed = seal(&ada, "secret");
  sim_fs_fault(sim, SIM_FAULT_ERROR, ENOSPC, 1, true);
  assert_int_equal(write_pending(), CG_EFULL);
  make("bob");
  assert_int_equal(write_pending(), CG_EFULL);
  assert_int_equal(cg_keys_durable(keys), 0);
  sim_fs_fault(sim, SIM_FAULT_NONE, 0, 0, false);
  assert_int_equal(write_pending(), CG_OK);
  assert_int_equal(cg_keys_durable(keys), 2);
  reopen();
  assert_int_equal(unseal(&ada, sealed, "secret"), CG_OK);
  cg_buf_unref(sealed);
}

static void test_a_failed_sync_is_final(void **state) {
  (void)state;
  struct cg_keys_ref ref;
  reopen();
  make("ada");
  sim_fs_fault(sim, SIM_FAULT_ERROR, EIO, 2, false); /* The write, then the sync. */
  assert_int_equal(write_pending(), CG_EFAILED);
  assert_int_equal(cg_keys_durable(keys), 0);
  assert_int_equal(cg_keys_failed(keys, &err), CG_EFAILED);
  assert_int_equal(cg_keys_make(keys, "bob", 3, 0, &ref, &err), CG_EFAILED);
  assert_null(cg_keys_batch_begin(keys));
}

static void test_short_and_interrupted_calls(void **state) {
  (void)state;
  for (uint64_t call = 1; call < 12; call++) {
    sim_fs_remove(sim, FILE_PATH);
    sim_fs_fault(sim, call % 2 == 0 ? SIM_FAULT_SHORT : SIM_FAULT_NONE, 0, call, false);
    reopen();
    struct cg_keys_ref ada = make("ada");
    struct cg_buf *sealed = seal(&ada, "secret");
    sim_fs_fault(sim, SIM_FAULT_SHORT, 0, 1, false);
    assert_int_equal(write_pending(), CG_OK);
    reopen();
    assert_int_equal(unseal(&ada, sealed, "secret"), CG_OK);
    cg_buf_unref(sealed);
  }
}

/* What a scripted run was told to be durable. */
struct told {
  bool has_ada;           /* Her key is durable. */
  bool is_ada_forgotten;  /* Its end is. */
  bool has_bob;           /* His key is durable. */
  struct cg_keys_ref ada; /* Its name once it was made. */
  struct cg_keys_ref bob; /* The same. */
  struct cg_buf *sealed;  /* "secret" under the key of Bob, or NULL. */
};

/* Opens, makes, forgets, until something fails. */
static void scripted_run(struct told *told, const uint8_t *master, const uint8_t *master_old) {
  if (open_with(master, master_old) != CG_OK)
    return;
  if (cg_keys_make(keys, "ada", 3, 1, &told->ada, &err) != CG_OK || write_pending() != CG_OK)
    return;
  told->has_ada = true;
  if (cg_keys_make(keys, "bob", 3, 1, &told->bob, &err) != CG_OK)
    return;
  told->sealed = seal(&told->bob, "secret");
  if (write_pending() != CG_OK)
    return;
  told->has_bob = true;
  if (cg_keys_forget(keys, &told->ada, NULL, 2, &err) != CG_OK || write_pending() != CG_OK)
    return;
  told->is_ada_forgotten = true;
}

static void check_told(const struct told *told) {
  struct cg_keys_ref found;
  if (told->is_ada_forgotten)
    assert_int_equal(find("ada", &found), CG_EFORGOTTEN);
  if (told->has_bob) {
    assert_int_equal(find("bob", &found), CG_OK);
    assert_memory_equal(&found, &told->bob, sizeof(found));
    assert_int_equal(unseal(&told->bob, told->sealed, "secret"), CG_OK);
  }
  if (told->has_ada && !told->is_ada_forgotten) {
    /* Alive, or her end came through, or it was under way: then it can be repeated. */
    enum cg_code code = find("ada", &found);
    assert_true(code == CG_OK || code == CG_EFORGOTTEN ||
                (code == CG_ENOTFOUND && cg_keys_damaged_count(keys) > 0));
    assert_int_equal(cg_keys_forget(keys, &told->ada, NULL, 3, &err), CG_OK);
    assert_int_equal(write_pending(), CG_OK);
    reopen();
    struct cg_buf *sealed = cg_buf_take(NULL, 0);
    assert_int_equal(cg_keys_seal(keys, &told->ada, NULL, 0, "x", 1, sealed, &err), CG_EFORGOTTEN);
    cg_buf_unref(sealed);
  }
}

static void test_crash_at_every_call(void **state) {
  (void)state;
  const char *seeds_text = getenv("CATGA_SEEDS");
  uint64_t seeds = seeds_text != NULL ? strtoull(seeds_text, NULL, 10) / 100 + 20 : 20;
  for (uint64_t seed = 1; seed <= seeds; seed++)
    for (uint64_t call = 1, is_over = 0; !is_over; call++) {
      cg_keys_close(keys);
      keys = NULL;
      sim_fs_free(sim);
      sim = sim_fs_new(seed);
      sim_fs_put_directory(sim, DIRECTORY);
      struct told told = {.sealed = NULL};
      sim_fs_fault(sim, SIM_FAULT_CRASH, EIO, call, false);
      scripted_run(&told, NULL, NULL);
      is_over = !sim_fs_has_faulted(sim);
      cg_keys_close(keys);
      keys = NULL;
      sim_fs_crash(sim);
      reopen();
      check_told(&told);
      cg_buf_unref(told.sealed);
    }
}

static void test_crash_while_the_master_key_changes(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++)
    for (uint64_t call = 1, is_over = 0; !is_over; call++) {
      cg_keys_close(keys);
      keys = NULL;
      sim_fs_free(sim);
      sim = sim_fs_new(seed);
      sim_fs_put_directory(sim, DIRECTORY);
      struct told told = {.sealed = NULL};
      scripted_run(&told, master_one, NULL);
      assert_true(told.is_ada_forgotten);
      sim_fs_fault(sim, SIM_FAULT_CRASH, EIO, call, false);
      enum cg_code code = open_with(master_two, master_one);
      is_over = !sim_fs_has_faulted(sim);
      assert_true(!is_over || code == CG_OK);
      cg_keys_close(keys);
      keys = NULL;
      sim_fs_crash(sim);
      assert_int_equal(open_with(master_two, master_one), CG_OK);
      check_told(&told);
      size_t size;
      assert_null(sim_fs_bytes(sim, FILE_PATH ".new", &size));
      cg_buf_unref(told.sealed);
    }
}

static void test_master_keys(void **state) {
  (void)state;
  uint8_t secret[32];
  size_t size;
  reopen();
  struct cg_keys_ref ada = make("ada");
  struct cg_buf *sealed = seal(&ada, "secret");
  assert_int_equal(write_pending(), CG_OK);
  memcpy(secret, sim_fs_bytes(sim, FILE_PATH, &size) + HEADER_BYTES + KEY_OFFSET, sizeof(secret));
  assert_int_equal(open_with(master_one, NULL), CG_OK); /* From now on it is wrapped. */
  assert_int_equal(unseal(&ada, sealed, "secret"), CG_OK);
  const uint8_t *bytes = sim_fs_bytes(sim, FILE_PATH, &size);
  assert_null(memmem(bytes, size, secret, sizeof(secret)));
  struct cg_keys_ref bob = make("bob");
  struct cg_buf *other = seal(&bob, "other");
  assert_int_equal(write_pending(), CG_OK);
  assert_int_equal(open_with(NULL, NULL), CG_EINVAL);
  assert_non_null(strstr(err.message, "CATGA_MASTER_KEY_FILE"));
  assert_int_equal(open_with(master_two, NULL), CG_EINVAL);
  assert_int_equal(open_with(master_two, master_one), CG_OK);
  assert_int_equal(open_with(master_two, NULL), CG_OK);
  assert_int_equal(unseal(&ada, sealed, "secret"), CG_OK);
  assert_int_equal(unseal(&bob, other, "other"), CG_OK);
  assert_int_equal(open_with(master_one, NULL), CG_EINVAL);
  cg_buf_unref(sealed);
  cg_buf_unref(other);
}

/* Every bit of the file, one by one: a key is the right one, or an error, and never another. */
static void check_every_bit(const uint8_t *master) {
  assert_int_equal(open_with(master, NULL), CG_OK);
  struct cg_keys_ref ada = make("ada"), bob = make("bob"), found;
  struct cg_buf *sealed = seal(&ada, "secret");
  assert_int_equal(cg_keys_forget(keys, &bob, NULL, 5, &err), CG_OK);
  assert_int_equal(write_pending(), CG_OK);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(sim, FILE_PATH, &size);
  assert_int_equal(size, HEADER_BYTES + 2 * SLOT_BYTES);
  size_t header_bits = (size_t)100 * 8;
  for (size_t bit = 0; bit < 8 * size; bit++) {
    if (bit == header_bits)
      bit = (size_t)HEADER_BYTES * 8; /* Between them are zeros that nobody reads. */
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    enum cg_code code = open_with(master, NULL);
    if (bit < header_bits) {
      assert_true(code == CG_ECORRUPT);
    } else if (bit < (size_t)(HEADER_BYTES + SLOT_BYTES) * 8) {
      assert_int_equal(cg_keys_damaged_count(keys), 1);
      assert_int_equal(unseal(&ada, sealed, "secret"), CG_ECORRUPT);
      assert_non_null(strstr(err.message, "key 1 is damaged"));
    } else {
      assert_int_equal(cg_keys_damaged_count(keys), 1);
      assert_int_equal(unseal(&ada, sealed, "secret"), CG_OK);
      assert_int_equal(find("bob", &found), CG_ENOTFOUND);
    }
    bytes = sim_fs_bytes(sim, FILE_PATH, &size);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  cg_buf_unref(sealed);
}

static void test_every_bit(void **state) {
  (void)state;
  check_every_bit(NULL);
}

static void test_every_bit_of_a_wrapped_file(void **state) {
  (void)state;
  check_every_bit(master_one);
}

/* A key that was to be destroyed is, whatever has become of its slot; its subject stays known. */
static void test_forgetting_what_is_damaged_or_missing(void **state) {
  (void)state;
  uint8_t digest[CG_KEYS_DIGEST_BYTES];
  struct cg_keys_ref found, gone = {.number = 99, .tag = 9};
  size_t size;
  reopen();
  struct cg_keys_ref ada = make("ada");
  assert_int_equal(write_pending(), CG_OK);
  assert_int_equal(cg_keys_digest(keys, "ada", 3, digest, &err), CG_OK);
  sim_fs_bytes(sim, FILE_PATH, &size)[HEADER_BYTES + 200] ^= 1;
  reopen();
  assert_int_equal(find("ada", &found), CG_ENOTFOUND);
  assert_int_equal(cg_keys_forget(keys, &ada, digest, 5, &err), CG_OK);
  assert_int_equal(write_pending(), CG_OK);
  reopen();
  assert_int_equal(cg_keys_damaged_count(keys), 0);
  assert_int_equal(find("ada", &found), CG_EFORGOTTEN);

  assert_int_equal(cg_keys_digest(keys, "bob", 3, digest, &err), CG_OK);
  assert_int_equal(cg_keys_forget(keys, &gone, digest, 5, &err), CG_ENOTFOUND);
  assert_int_equal(write_pending(), CG_OK);
  reopen();
  assert_int_equal(find("bob", &found), CG_EFORGOTTEN);
  assert_int_equal(cg_keys_forget(keys, &gone, digest, 5, &err), CG_ENOTFOUND);
  assert_int_equal(cg_keys_queued(keys), 0); /* It is known already. */
}

static void test_slots_in_each_others_place(void **state) {
  (void)state;
  reopen();
  struct cg_keys_ref ada = make("ada"), found;
  make("bob");
  assert_int_equal(write_pending(), CG_OK);
  size_t size;
  uint8_t *slots = sim_fs_bytes(sim, FILE_PATH, &size) + HEADER_BYTES, swapped[SLOT_BYTES];
  memcpy(swapped, slots, SLOT_BYTES);
  memcpy(slots, slots + SLOT_BYTES, SLOT_BYTES);
  memcpy(slots + SLOT_BYTES, swapped, SLOT_BYTES);
  reopen();
  assert_int_equal(cg_keys_damaged_count(keys), 2);
  assert_int_equal(find("ada", &found), CG_ENOTFOUND);
  assert_int_equal(cg_keys_seal(keys, &ada, NULL, 0, "x", 1, NULL, &err), CG_ECORRUPT);
}

static void test_in_memory(void **state) {
  (void)state;
  struct cg_keys_options options = {.cached_max = 1};
  struct cg_keys_ref refs[100];
  char subject[16];
  assert_int_equal(cg_keys_open(&keys, &options, &err), CG_OK);
  for (int i = 0; i < 100; i++) {
    snprintf(subject, sizeof(subject), "%d", i);
    refs[i] = make(subject);
  }
  assert_int_equal(cg_keys_durable(keys), 100);
  assert_null(cg_keys_batch_begin(keys));
  struct cg_buf *sealed = seal(&refs[0], "secret");
  assert_int_equal(unseal(&refs[0], sealed, "secret"), CG_OK);
  assert_int_equal(cg_keys_forget(keys, &refs[0], NULL, 5, &err), CG_OK);
  assert_int_equal(unseal(&refs[0], sealed, "secret"), CG_EFORGOTTEN);
  cg_buf_unref(sealed);
}

static void write_file(const char *path, const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

static void test_reading_a_master_key(void **state) {
  (void)state;
  char path[] = "/tmp/catga-master-XXXXXX";
  uint8_t bytes[32], read[32];
  char text[80];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  for (int i = 0; i < 32; i++) {
    bytes[i] = (uint8_t)(i * 9);
    snprintf(text + 2 * i, 3, i % 2 == 0 ? "%02x" : "%02X", bytes[i]);
  }
  write_file(path, bytes, 32);
  assert_int_equal(cg_keys_master_read(path, read, &err), CG_OK);
  assert_memory_equal(read, bytes, 32);
  strcpy(text + 64, "\n");
  for (size_t size = 64; size <= 65; size++) {
    memset(read, 0, sizeof(read));
    write_file(path, text, size);
    assert_int_equal(cg_keys_master_read(path, read, &err), CG_OK);
    assert_memory_equal(read, bytes, 32);
  }
  text[10] = 'g';
  static const size_t wrong[] = {0, 31, 33, 63, 64, 65};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    write_file(path, text, wrong[i]);
    assert_int_equal(cg_keys_master_read(path, read, &err), CG_EINVAL);
  }
  unlink(path);
  close(fd);
  assert_int_equal(cg_keys_master_read(path, read, &err), CG_ENOTFOUND);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_a_key_is_made_once_and_kept, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_forgotten_key_is_overwritten, setup, teardown),
      cmocka_unit_test_setup_teardown(test_the_cache_is_bounded_and_pending_keys_stay, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
      cmocka_unit_test_setup_teardown(test_list, setup, teardown),
      cmocka_unit_test(test_names_of_keys),
      cmocka_unit_test_setup_teardown(test_a_full_disk_is_tried_again, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_failed_sync_is_final, setup, teardown),
      cmocka_unit_test_setup_teardown(test_short_and_interrupted_calls, setup, teardown),
      cmocka_unit_test_setup_teardown(test_crash_at_every_call, setup, teardown),
      cmocka_unit_test_setup_teardown(test_crash_while_the_master_key_changes, setup, teardown),
      cmocka_unit_test_setup_teardown(test_master_keys, setup, teardown),
      cmocka_unit_test_setup_teardown(test_every_bit, setup, teardown),
      cmocka_unit_test_setup_teardown(test_every_bit_of_a_wrapped_file, setup, teardown),
      cmocka_unit_test_setup_teardown(test_forgetting_what_is_damaged_or_missing, setup, teardown),
      cmocka_unit_test_setup_teardown(test_slots_in_each_others_place, setup, teardown),
      cmocka_unit_test_setup_teardown(test_in_memory, setup, teardown),
      cmocka_unit_test(test_reading_a_master_key),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
