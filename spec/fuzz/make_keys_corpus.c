/* make_keys_corpus.c - writes the corpora of keys_fuzz and ids_fuzz.
 *
 * Usage, after `make` and `make test-programs`, in the root of the tree:
 *   cc -std=c11 -D_GNU_SOURCE -Isrc -Ispec/c spec/fuzz/make_keys_corpus.c build/libsupport.a \
 *     build/libcatga.a -pthread -ldl -o build/make_keys_corpus && \
 *     build/make_keys_corpus spec/fuzz/corpus
 * Keys are random, so each run writes other bytes.
 * Owns: nothing. Thread: one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "store/keys.h"
#include "support/sim_fs.h"

#define SLOT_DISTANCE 4096
#define NOW_MS INT64_C(1767225600000)

static void must(bool holds) {
  if (!holds)
    abort();
}

static void save(const char *directory, const char *name, const void *bytes, size_t size) {
  char path[512];
  snprintf(path, sizeof(path), "%s/%s", directory, name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

static void write_pending(struct cg_keys *keys) {
  struct cg_keys_batch *batch = cg_keys_batch_begin(keys);
  cg_keys_batch_write(batch);
  must(cg_keys_batch_end(keys, batch, NULL) == CG_OK);
}

/* A file with three keys, one of them forgotten. */
static void make_keys(const char *corpus, const char *name, const uint8_t *master) {
  static const char *const subjects[] = {"7", "ada@example.org", "42"};
  struct sim_fs *sim = sim_fs_new(1);
  sim_fs_put_directory(sim, "/data");
  struct cg_keys_options options = {.fs = sim_fs_calls(sim),
                                    .directory = "/data",
                                    .master = master,
                                    .cached_max = CG_KEYS_CACHED_MIN};
  struct cg_keys *keys;
  struct cg_keys_ref ref;
  must(cg_keys_open(&keys, &options, NULL) == CG_OK);
  for (int index = 0; index < 3; index++)
    must(cg_keys_make(keys, subjects[index], strlen(subjects[index]), NOW_MS, &ref, NULL) == CG_OK);
  write_pending(keys);
  must(cg_keys_forget(keys, &ref, NULL, NOW_MS, NULL) == CG_OK);
  write_pending(keys);
  cg_keys_close(keys);
  char directory[400];
  snprintf(directory, sizeof(directory), "%s/keys", corpus);
  size_t size;
  const uint8_t *bytes = sim_fs_bytes(sim, "/data/keys", &size);
  save(directory, name, bytes, size);
  sim_fs_free(sim);
}

/* Two slots with these times; both CRCs right. */
static void make_ids(const char *corpus, const char *name, int64_t first_ms, int64_t second_ms) {
  uint8_t bytes[SLOT_DISTANCE + 16] = {0};
  const int64_t times[2] = {first_ms, second_ms};
  for (size_t slot = 0; slot < 2; slot++) {
    uint8_t *at = bytes + slot * SLOT_DISTANCE;
    memcpy(at, &times[slot], 8);
    uint32_t crc = cg_crc32c(0, at, 8);
    memcpy(at + 8, &crc, 4);
  }
  char directory[400];
  snprintf(directory, sizeof(directory), "%s/ids", corpus);
  save(directory, name, bytes, sizeof(bytes));
}

int main(int argc, char **argv) {
  static const uint8_t master[CG_KEYS_MASTER_BYTES] = {1};
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIRECTORY, with keys/ and ids/ in it\n", argv[0]);
    return 2;
  }
  make_keys(argv[1], "plain", NULL);
  make_keys(argv[1], "wrapped", master);
  make_ids(argv[1], "ahead", NOW_MS + 1000, NOW_MS);
  make_ids(argv[1], "behind", 0, NOW_MS - 1000);
  make_ids(argv[1], "never", INT64_MAX, INT64_MIN);
  return 0;
}
