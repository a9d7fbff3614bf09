/* keys_fuzz.c - any bytes as a file of keys, and as what was sealed with them: opening, looking,
 * unsealing, making and forgetting must not crash. A file that opens takes a new key and opens
 * again with it; a damaged slot is counted, the others stay.
 *
 * Each input is tried as it is, and with the CRCs of header and slots made right; without and with
 * a master key. The corpus was made by spec/fuzz/make_keys_corpus.c.
 * Owns: nothing between calls. Thread: one. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "store/keys.h"
#include "support/sim_fs.h"

#define INPUT_BYTES_MAX ((size_t)1 << 16)
#define HEADER_BYTES 4096
#define SLOT_BYTES 256
#define NOW_MS INT64_C(1767225600000)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const uint8_t master[CG_KEYS_MASTER_BYTES] = {1}; /* Of one seed of the corpus. */

static void require(bool is_true) {
  if (!is_true)
    abort();
}

static void put_crc(uint8_t *at, const uint8_t *bytes, size_t size) {
  uint32_t crc = cg_crc32c(0, bytes, size);
  memcpy(at, &crc, sizeof(crc));
}

static void repair(uint8_t *bytes, size_t size) {
  if (size < HEADER_BYTES)
    return;
  put_crc(bytes + 96, bytes, 96);
  for (size_t at = HEADER_BYTES; at + SLOT_BYTES <= size; at += SLOT_BYTES)
    put_crc(bytes + at, bytes + at + 4, SLOT_BYTES - 4);
}

static void write_pending(struct cg_keys *keys) {
  struct cg_keys_batch *batch = cg_keys_batch_begin(keys);
  if (batch == NULL)
    return;
  cg_keys_batch_write(batch);
  require(cg_keys_batch_end(keys, batch, NULL) == CG_OK);
}

/* Whether a text that is sealed with a key comes back; a forgotten key must refuse. */
static void use_key(struct cg_keys *keys, const struct cg_keys_info *info) {
  struct cg_buf *sealed = cg_buf_take(NULL, 0), *plain = cg_buf_take(NULL, 0);
  struct cg_err err;
  char text[CG_KEYS_REF_CHARS];
  struct cg_keys_ref ref;
  cg_keys_ref_format(&info->ref, text);
  require(cg_keys_ref_parse(text, strlen(text), &ref) && ref.number == info->ref.number &&
          ref.tag == info->ref.tag);
  enum cg_code code = cg_keys_seal(keys, &ref, "b", 1, "plain", 5, sealed, &err);
  require(code == (info->is_forgotten ? CG_EFORGOTTEN : CG_OK));
  if (code == CG_OK) {
    require(cg_keys_unseal(keys, &ref, "b", 1, sealed->data, sealed->size, plain, &err) == CG_OK);
    require(plain->size == 5 && memcmp(plain->data, "plain", 5) == 0);
  }
  cg_buf_unref(sealed);
  cg_buf_unref(plain);
}

/* Uses every key that there is; returns how many. */
static uint64_t use_all(struct cg_keys *keys) {
  struct cg_keys_info info;
  struct cg_err err;
  uint64_t cursor = 0, count = 0;
  enum cg_code code;
  while ((code = cg_keys_next(keys, &cursor, 1000, &info, &err)) != CG_END) {
    require(code == CG_OK || code == CG_ENOTFOUND);
    if (code != CG_OK)
      continue;
    use_key(keys, &info);
    struct cg_keys_ref ref;
    cg_keys_find(keys, info.subject, info.subject_size, &ref, &err);
    count++;
  }
  return count;
}

/* Any bytes as a sealed text, and as the name of a key. */
static void unseal_any(struct cg_keys *keys, const uint8_t *bytes, size_t size) {
  struct cg_buf *plain = cg_buf_take(NULL, 0);
  struct cg_keys_ref ref = {.number = 1, .tag = 1};
  struct cg_err err;
  cg_keys_ref_parse((const char *)bytes, size, &ref);
  require(cg_keys_unseal(keys, &ref, "b", 1, bytes, size, plain, &err) != CG_OK);
  cg_buf_unref(plain);
}

static void try_bytes(const uint8_t *bytes, size_t size, bool is_wrapped) {
  struct sim_fs *sim = sim_fs_new(1);
  sim_fs_put_directory(sim, "/data");
  sim_fs_put(sim, "/data/keys", bytes, size);
  struct cg_keys_options options = {.fs = sim_fs_calls(sim),
                                    .directory = "/data",
                                    .master = is_wrapped ? master : NULL,
                                    .cached_max = CG_KEYS_CACHED_MIN};
  struct cg_keys *keys;
  struct cg_err err;
  if (cg_keys_open(&keys, &options, &err) == CG_OK) {
    uint64_t damaged_count = cg_keys_damaged_count(keys), count = use_all(keys);
    unseal_any(keys, bytes, size);
    struct cg_keys_ref ref, found;
    require(cg_keys_make(keys, "somebody new", 12, NOW_MS, &ref, &err) == CG_OK);
    write_pending(keys);
    cg_keys_close(keys);
    require(cg_keys_open(&keys, &options, &err) == CG_OK);
    require(cg_keys_damaged_count(keys) == damaged_count);
    require(cg_keys_find(keys, "somebody new", 12, &found, &err) == CG_OK);
    require(found.number == ref.number && found.tag == ref.tag);
    require(use_all(keys) == count + 1);
    require(cg_keys_forget(keys, &ref, NULL, NOW_MS, &err) == CG_OK);
    write_pending(keys);
    require(cg_keys_find(keys, "somebody new", 12, &found, &err) == CG_EFORGOTTEN);
    cg_keys_close(keys);
  }
  sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size > INPUT_BYTES_MAX)
    return 0;
  uint8_t *copy = cg_alloc(size);
  if (size > 0)
    memcpy(copy, bytes, size);
  for (int is_wrapped = 0; is_wrapped < 2; is_wrapped++) {
    try_bytes(bytes, size, is_wrapped);
    repair(copy, size);
    try_bytes(copy, size, is_wrapped);
  }
  cg_free(copy);
  return 0;
}
