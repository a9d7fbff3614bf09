/* replay_main.c - feeds every file of a corpus directory to a fuzz target, without a fuzzer.
 *
 * So that the corpora run with the ordinary compiler in every test run. Usage: PROGRAM DIRECTORY.
 * An empty or missing directory is a failure: a target without inputs tests nothing.
 * Owns: nothing. Thread: one. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX (UINT32_C(64) << 20)
#define PATH_BYTES 4096

/* The target under replay. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static int replay_directory(const char *directory);
static int replay_file(const char *path);

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  int count = replay_directory(argv[1]);
  if (count <= 0) {
    fprintf(stderr, "%s: no inputs replayed\n", argv[1]);
    return 1;
  }
  printf("%d inputs replayed\n", count);
  return 0;
}

/* Replays every file; returns how many, or -1 when one could not be read. */
static int replay_directory(const char *directory) {
  DIR *entries = opendir(directory);
  if (!entries)
    return -1;
  int count = 0;
  for (const struct dirent *entry; count >= 0 && (entry = readdir(entries));) {
    if (entry->d_name[0] == '.')
      continue;
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
    count = replay_file(path) == 0 ? count + 1 : -1;
  }
  closedir(entries);
  return count;
}

/* Runs one input from memory of exactly its size, so that a sanitizer sees the first byte read
 * beyond it. The name goes first, so that a crash tells which input it was. */
static int replay_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    return -1;
  }
  printf("%s\n", path);
  fflush(stdout);
  int result = -1;
  uint8_t *bytes = NULL;
  if (fseek(file, 0, SEEK_END) != 0)
    goto done;
  long size = ftell(file);
  if (size < 0 || size > (long)INPUT_BYTES_MAX)
    goto done;
  rewind(file);
  bytes = malloc(size > 0 ? (size_t)size : 1);
  if (!bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size)
    goto done;
  LLVMFuzzerTestOneInput(bytes, (size_t)size);
  result = 0;

done:
  if (result != 0)
    fprintf(stderr, "%s: cannot be read\n", path);
  free(bytes);
  fclose(file);
  return result;
}
