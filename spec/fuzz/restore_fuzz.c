/* restore_fuzz.c - any bytes as the manifest of a backup of which all else is whole: restoring and
 * backing up again must not crash; what is restored is a whole log, and a backup that could be
 * restored can be after the next run too.
 *
 * Each input is tried as it is, and with the line that checks it made right. The backup's segments
 * are whole, of the log that the corpus was made from, by spec/fuzz/make_log_corpus.c.
 * Owns: nothing between calls. Thread: one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "support/log_bytes.h"

#define INPUT_BYTES_MAX ((size_t)1 << 16)
#define CHECK "check "

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

/* A disk with the log and its backup; the same bytes each time. */
static struct sim_fs *make_backup(void) {
  struct sim_fs *sim = sim_fs_new(1);
  log_bytes_make(sim);
  struct cg_log_backup backup = {.now_ms = 1700000000000};
  require(cg_log_backup("/log", "/b", sim_fs_calls(sim), &backup, NULL) == CG_OK);
  return sim;
}

static void try_bytes(const char *bytes, size_t size) {
  struct sim_fs *sim = make_backup();
  const struct cg_fs *fs = sim_fs_calls(sim);
  sim_fs_put(sim, "/b/manifest", bytes, size);
  struct cg_err err;
  struct cg_log_backup backup = {0};
  bool is_restored = cg_log_restore("/b", "/data", fs, &backup, &err) == CG_OK;
  if (is_restored)
    require(cg_log_verify("/data/log", fs, &(struct cg_log_verify){0}, &err) == CG_OK);
  backup = (struct cg_log_backup){.now_ms = 1700000000001};
  if (cg_log_backup("/log", "/b", fs, &backup, &err) == CG_OK) {
    backup = (struct cg_log_backup){0};
    enum cg_code code = cg_log_restore("/b", "/again", fs, &backup, &err);
    require(code == CG_OK || !is_restored);
  }
  sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size > INPUT_BYTES_MAX)
    return 0;
  try_bytes((const char *)bytes, size);
  char *copy = malloc(size + 32);
  require(copy != NULL);
  if (size > 0)
    memcpy(copy, bytes, size);
  const char *last = memmem(copy, size, CHECK, sizeof(CHECK) - 1);
  size_t checked = last ? (size_t)(last - copy) : size;
  int more = snprintf(copy + checked, 32, CHECK "%08" PRIx32 "\n", cg_crc32c(0, copy, checked));
  try_bytes(copy, checked + (size_t)more);
  free(copy);
  return 0;
}
