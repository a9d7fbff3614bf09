/* keys_fuzz.c - the file of keys: any bytes are opened or refused, and what is taken for a key works.
 *
 * Run twice: as the bytes are, and with their checksums put right, so that what lies behind these
 * is reached.
 * Owns: nothing between calls. Thread: one. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "store/keys.h"
#include "support/sim_fs.h"

#define HEADER_BYTES 4096
#define HEADER_CHECKED 96
#define SLOT_BYTES 256
#define SIZE_MAX_TRIED (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was sealed is unsealed again; a forgotten key does neither. */
static void try_key(struct cg_keys *keys, const struct cg_keys_info *info) {
  struct cg_buf *sealed = cg_buf_take(NULL, 0), *plain = cg_buf_take(NULL, 0);
  struct cg_err err;
  enum cg_code code = cg_keys_seal(keys, &info->ref, "b", 1, "text", 4, sealed, &err);
  assert(code == (info->is_forgotten ? CG_EFORGOTTEN : CG_OK));
  if (code == CG_OK) {
    code = cg_keys_unseal(keys, &info->ref, "b", 1, sealed->data, sealed->size, plain, &err);
    assert(code == CG_OK && plain->size == 4 && memcmp(plain->data, "text", 4) == 0);
    code = cg_keys_forget(keys, &info->ref, NULL, 1, &err);
    assert(code == CG_OK);
  }
  cg_buf_unref(sealed);
  cg_buf_unref(plain);
}

static void try_file(const uint8_t *bytes, size_t size) {
  struct sim_fs *sim = sim_fs_new(1);
  sim_fs_put_directory(sim, "/d");
  sim_fs_put(sim, "/d/keys", bytes, size);
  struct cg_keys_options options = {.fs = sim_fs_calls(sim), .directory = "/d", .cached_max = 1};
  struct cg_keys *keys;
  struct cg_err err;
  if (cg_keys_open(&keys, &options, &err) == CG_OK) {
    struct cg_keys_info info;
    struct cg_keys_ref ref;
    uint64_t cursor = 0;
    enum cg_code code;
    while ((code = cg_keys_next(keys, &cursor, 10, &info, &err)) != CG_END)
      if (code == CG_OK)
        try_key(keys, &info);
    code = cg_keys_make(keys, "new", 3, 1, &ref, &err);
    assert(code == CG_OK || code == CG_ECORRUPT);
    struct cg_keys_batch *batch = cg_keys_batch_begin(keys);
    if (batch != NULL) {
      cg_keys_batch_write(batch);
      code = cg_keys_batch_end(keys, batch, &err);
      assert(code == CG_OK);
    }
    cg_keys_close(keys);
  }
  sim_fs_free(sim);
}

/* Writes the CRC of `size` bytes to `at`. */
static void mend(uint8_t *at, const uint8_t *bytes, size_t size) {
  uint32_t crc = cg_crc32c(0, bytes, size);
  for (int i = 0; i < 4; i++)
    at[i] = (uint8_t)(crc >> (8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > SIZE_MAX_TRIED)
    return 0;
  try_file(data, size);
  if (size < HEADER_BYTES)
    return 0;
  uint8_t *copy = malloc(size);
  assert(copy != NULL);
  memcpy(copy, data, size);
  mend(copy + HEADER_CHECKED, copy, HEADER_CHECKED);
  for (size_t at = HEADER_BYTES; at + SLOT_BYTES <= size; at += SLOT_BYTES)
    mend(copy + at, copy + at + 4, SLOT_BYTES - 4);
  try_file(copy, size);
  free(copy);
  return 0;
}
