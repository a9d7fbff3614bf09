/* ids_fuzz.c - any bytes as the file `ids` of a data directory: the store opens, and its ids are
 * new ones, also after it was closed and after it was left.
 *
 * Each input is tried as it is, and with the CRCs of both slots made right.
 * Owns: nothing between calls. Thread: one. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "store/store.h"
#include "support/sim_fs.h"

#define INPUT_BYTES_MAX ((size_t)16384)
#define SLOT_DISTANCE 4096
#define NOW_MS INT64_C(1767225600000)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

/* Opens the store, takes an id, which must be above *last, and closes or leaves it. */
static void take_id(const struct cg_store_options *options, bool close, uint64_t *last) {
  struct cg_store *store;
  struct cg_err err;
  uint64_t id;
  require(cg_store_open(&store, options, &err) == CG_OK);
  enum cg_code code = cg_store_new_id(store, &id, &err);
  require(code == CG_OK || code == CG_ELIMIT); /* A reservation of the last times that fit an id. */
  if (code == CG_OK) {
    require(id > *last && cg_id_decode(id).time_ms >= NOW_MS);
    *last = id;
  }
  if (close)
    require(cg_store_close(store, &err) == CG_OK);
  else
    cg_store_abandon(store);
}

static void try_bytes(const uint8_t *bytes, size_t size) {
  struct sim_fs *sim = sim_fs_new(1);
  struct cg_clock_virtual clock = {.wall_ms = NOW_MS};
  struct cg_store_options options = {.path = "/data", .seed = 1};
  options.log.fs = sim_fs_calls(sim);
  options.log.clock = cg_clock_of(&clock);
  options.log.segment_bytes = 64 << 10;
  options.log.nonce_seed = 1;
  options.log.manual = true;
  sim_fs_put_directory(sim, "/data");
  sim_fs_put(sim, "/data/ids", bytes, size);
  uint64_t last = 0;
  take_id(&options, false, &last);
  sim_fs_kill(sim);
  take_id(&options, true, &last);
  take_id(&options, true, &last);
  sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size > INPUT_BYTES_MAX)
    return 0;
  try_bytes(bytes, size);
  uint8_t *copy = cg_alloc(size);
  if (size > 0)
    memcpy(copy, bytes, size);
  for (size_t at = 0; at + 12 <= size; at += SLOT_DISTANCE) {
    uint32_t crc = cg_crc32c(0, copy + at, 8);
    memcpy(copy + at + 8, &crc, sizeof(crc));
  }
  try_bytes(copy, size);
  cg_free(copy);
  return 0;
}
