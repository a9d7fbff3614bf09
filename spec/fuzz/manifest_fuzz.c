/* manifest_fuzz.c - any bytes as the manifest of a backup, as they are and with a right check
 * behind them: reading must stay inside them, and what was read is the same when it is written and
 * read again.
 *
 * Owns: nothing between calls. Thread: one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "log/manifest.h"
#include "support/sim_fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

static void require_same(const struct cg_manifest *left, const struct cg_manifest *right) {
  require(memcmp(left->log_id, right->log_id, sizeof(left->log_id)) == 0);
  require(left->run == right->run && left->time_ms == right->time_ms);
  require(left->end_position == right->end_position);
  require(left->segment_count == right->segment_count);
  for (uint64_t number = 0; number < left->segment_count; number++) {
    const struct cg_manifest_segment *a = &left->segments[number], *b = &right->segments[number];
    require(a->nonce == b->nonce && a->crc == b->crc && a->size == b->size);
    require(a->first_position == b->first_position && a->end_position == b->end_position);
    require(a->end_chain == b->end_chain && a->is_sealed == b->is_sealed);
  }
}

static void read_one(const void *bytes, size_t size) {
  struct sim_fs *sim = sim_fs_new(1);
  const struct cg_fs *fs = sim_fs_calls(sim);
  struct cg_manifest manifest, again;
  struct cg_err err;
  sim_fs_put_directory(sim, "/b");
  sim_fs_put(sim, "/b/manifest", bytes, size);
  enum cg_code code = cg_manifest_read(&manifest, fs, "/b", &err);
  require(code == CG_OK || code == CG_ECORRUPT);
  if (code == CG_OK) {
    require(cg_manifest_write(&manifest, fs, "/b", &err) == CG_OK);
    require(cg_manifest_read(&again, fs, "/b", &err) == CG_OK);
    require_same(&manifest, &again);
    cg_manifest_deinit(&again);
  }
  cg_manifest_deinit(&manifest);
  sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  char check[32];
  int check_size =
      snprintf(check, sizeof(check), "check %08" PRIx32 "\n", cg_crc32c(0, bytes, size));
  uint8_t *checked = malloc(size + sizeof(check));
  require(checked != NULL);
  if (size > 0)
    memcpy(checked, bytes, size);
  memcpy(checked + size, check, (size_t)check_size);
  read_one(checked, size + (size_t)check_size);
  free(checked);
  read_one(bytes, size);
  return 0;
}
