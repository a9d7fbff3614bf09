/* make_index_corpus.c - writes the corpus of index_fuzz: tables out of a real store.
 *
 * Usage, after `make` and `make test-programs`, in the root of the tree:
 *   cc -std=c11 -D_GNU_SOURCE -Isrc -Ispec/c spec/fuzz/make_index_corpus.c build/libsupport.a \
 *     build/libcatga.a -pthread -lzstd -o build/make_index_corpus && \
 *     build/make_index_corpus spec/fuzz/corpus/index
 * Owns: nothing. Thread: one. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "support/sim_fs.h"

static void save(const char *directory, const char *name, const uint8_t *bytes, size_t size) {
  char path[512];
  snprintf(path, sizeof(path), "%s/%s", directory, name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

/* Adds a record to a stream and commits it. */
static void append(struct cg_store *store, int number) {
  char name[32];
  int size = snprintf(name, sizeof(name), "Order-%d", number * 7 % 23);
  struct cg_store_event event = {.expected = CG_STORE_ANY,
                                 .type = "Happened",
                                 .type_size = 8,
                                 .id = (uint64_t)number,
                                 .flags = (uint16_t)(number % 9 == 1   ? CG_RECORD_OPENS
                                                     : number % 9 == 5 ? CG_RECORD_CLOSES
                                                                       : 0)};
  static const char filler[2000];
  struct cg_buf *data;
  uint64_t first;
  cg_store_begin(store);
  if (cg_store_find(store, name, (size_t)size, true, &event.stream, NULL) != CG_OK ||
      cg_store_add(store, &event, &data, NULL) != CG_OK)
    exit(1);
  cg_buf_append(data, filler, sizeof(filler));
  cg_store_added(store);
  if (cg_store_commit(store, &first, NULL) != CG_OK)
    exit(1);
  cg_log_turn(cg_store_log(store));
}

/* Saves a table of one segment, and one of four. */
static void make_tables(const char *directory) {
  struct sim_fs *sim = sim_fs_new(1);
  struct cg_clock_virtual clock = {.wall_ms = 1700000000000};
  struct cg_store_options options = {.path = "/data",
                                     .log = {.fs = sim_fs_calls(sim),
                                             .clock = cg_clock_of(&clock),
                                             .segment_bytes = 64 << 10,
                                             .nonce_seed = 1,
                                             .manual = true}};
  struct cg_store *store;
  if (cg_store_open(&store, &options, NULL) != CG_OK)
    exit(1);
  for (int number = 0; number < 180; number++) {
    append(store, number);
    while (cg_store_turn(store))
      ;
  }
  static const char *const names[][2] = {{"one", "table-0000000004-0000000004.idx"},
                                         {"four", "table-0000000000-0000000003.idx"}};
  for (int index = 0; index < 2; index++) {
    char path[64];
    size_t size;
    snprintf(path, sizeof(path), "/data/index/%s", names[index][1]);
    const uint8_t *bytes = sim_fs_bytes(sim, path, &size);
    if (!bytes)
      exit(1);
    save(directory, names[index][0], bytes, size);
  }
  cg_store_abandon(store);
  sim_fs_free(sim);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  make_tables(argv[1]);
  return 0;
}
