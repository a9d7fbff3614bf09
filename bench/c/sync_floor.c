/* sync_floor.c - what the disk does alone: pwrite and fdatasync, one after the other, into a file
 * that was written in full before, as a segment of the log is.
 *
 * Usage: sync_floor COUNT RECORD_BYTES RECORDS FILE
 * Each of COUNT rounds writes RECORDS records with one call and syncs.
 * Owns: the file. Thread: one. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define FILE_BYTES (64u << 20)
#define WRITE_BYTES (1u << 20)

static void fail(const char *what) {
  fprintf(stderr, "sync_floor: %s\n", what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct cg_clock clock = cg_clock_system();
  return cg_clock_mono_ns(&clock);
}

/* Opens the file and writes it in full, unless an earlier run has. */
static int open_file(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0)
    fail("cannot open the file");
  if (info.st_size == (off_t)FILE_BYTES)
    return fd;
  uint8_t *zeros = cg_alloc(WRITE_BYTES);
  for (uint64_t offset = 0; offset < FILE_BYTES; offset += WRITE_BYTES)
    if (pwrite(fd, zeros, WRITE_BYTES, (off_t)offset) != WRITE_BYTES)
      fail("cannot fill the file");
  if (fsync(fd) != 0)
    fail("cannot sync the file");
  cg_free(zeros);
  return fd;
}

static int compare_ns(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

int main(int argc, char **argv) {
  if (argc != 5)
    fail("usage: sync_floor COUNT RECORD_BYTES RECORDS FILE");
  size_t count = strtoul(argv[1], NULL, 10);
  size_t records = strtoul(argv[3], NULL, 10);
  size_t size = strtoul(argv[2], NULL, 10) * records;
  if (count == 0 || size == 0 || size > WRITE_BYTES)
    fail("all numbers are from 1, a write has at most 1 MiB");
  int fd = open_file(argv[4]);
  uint8_t *bytes = cg_alloc(size);
  memset(bytes, 7, size);
  uint64_t *samples_ns = cg_alloc(count * sizeof(*samples_ns));
  uint64_t offset = 0, begin_ns = now_ns();
  for (size_t i = 0; i < count; i++) {
    if (offset + size > FILE_BYTES)
      offset = 0;
    uint64_t round_ns = now_ns();
    if (pwrite(fd, bytes, size, (off_t)offset) != (ssize_t)size || fdatasync(fd) != 0)
      fail("write");
    samples_ns[i] = now_ns() - round_ns;
    offset += size;
  }
  double seconds = (double)(now_ns() - begin_ns) / 1e9;
  qsort(samples_ns, count, sizeof(*samples_ns), compare_ns);
  printf("raw sync of %zu, p50: %.1f us\n", records, (double)samples_ns[count / 2] / 1e3);
  printf("raw sync of %zu, p99: %.1f us\n", records, (double)samples_ns[count * 99 / 100] / 1e3);
  printf("raw sync of %zu: %.0f records a second\n", records, (double)(count * records) / seconds);
  cg_free(samples_ns);
  cg_free(bytes);
  close(fd);
  return 0;
}
