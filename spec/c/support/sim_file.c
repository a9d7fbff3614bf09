/* sim_file.c - one file of a simulated file system: as programs see it, and as it is on the disk.
 *
 * There are two sets of bytes. A write goes to the first and leaves a copy of each touched sector
 * in the list of versions; sync copies the touched sectors to the disk and clears the list; settle
 * picks from the list, sector by sector: the old one, the newest, any between, or one torn.
 * A sector that is as it is on the disk, and was no other since, is not in the list: zeros written
 * ahead are most of what a log writes.
 * Owns: the bytes. Thread: one. */
#include "support/sim_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

uint64_t sim_file_random(uint64_t *random, uint64_t bound) {
  uint64_t mixed = *random += UINT64_C(0x9e3779b97f4a7c15); /* SplitMix64. */
  mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
  mixed ^= mixed >> 31;
  return bound == 0 ? 0 : mixed % bound;
}

void sim_file_make_room(struct sim_file *file, size_t size) {
  size += SIM_SECTOR_BYTES; /* So that the last sector is whole. */
  if (size <= file->capacity)
    return;
  size_t capacity = file->capacity * 2;
  if (capacity < size)
    capacity = (size + 4095) / 4096 * 4096;
  file->seen = cg_realloc(file->seen, capacity);
  file->disk = cg_realloc(file->disk, capacity);
  memset(file->seen + file->capacity, 0, capacity - file->capacity);
  memset(file->disk + file->capacity, 0, capacity - file->capacity);
  size_t had = file->capacity / SIM_SECTOR_BYTES, has = capacity / SIM_SECTOR_BYTES;
  file->is_noted = cg_realloc(file->is_noted, has);
  memset(file->is_noted + had, 0, has - had);
  file->capacity = capacity;
}

static void note_version(struct sim_file *file, uint64_t sector) {
  const uint8_t *seen = file->seen + sector * SIM_SECTOR_BYTES;
  if (!file->is_noted[sector] &&
      memcmp(seen, file->disk + sector * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES) == 0)
    return;
  file->is_noted[sector] = true;
  if (file->version_count == file->version_capacity) {
    file->version_capacity = file->version_capacity > 0 ? file->version_capacity * 2 : 64;
    file->versions = cg_realloc(file->versions, file->version_capacity * sizeof(*file->versions));
  }
  struct sim_version *version = &file->versions[file->version_count++];
  version->sector = sector;
  memcpy(version->bytes, seen, SIM_SECTOR_BYTES);
}

static void forget_versions(struct sim_file *file) {
  for (size_t index = 0; index < file->version_count; index++)
    file->is_noted[file->versions[index].sector] = false;
  file->version_count = 0;
}

void sim_file_write(struct sim_file *file, const void *bytes, size_t size, uint64_t offset) {
  if (size == 0)
    return;
  size_t end = (size_t)offset + size;
  sim_file_make_room(file, end);
  memcpy(file->seen + offset, bytes, size);
  for (uint64_t sector = offset / SIM_SECTOR_BYTES; sector <= (end - 1) / SIM_SECTOR_BYTES;
       sector++)
    note_version(file, sector);
  if (end > file->seen_size)
    file->seen_size = end;
}

void sim_file_sync(struct sim_file *file) {
  for (size_t index = 0; index < file->version_count; index++) {
    uint64_t at = file->versions[index].sector * SIM_SECTOR_BYTES;
    memcpy(file->disk + at, file->seen + at, SIM_SECTOR_BYTES);
  }
  forget_versions(file);
  file->disk_size = file->seen_size;
}

void sim_file_truncate(struct sim_file *file, uint64_t size) {
  sim_file_make_room(file, (size_t)size);
  if (size < file->seen_size) {
    memset(file->seen + size, 0, file->seen_size - (size_t)size);
    for (uint64_t at = size; at < file->seen_size; at += SIM_SECTOR_BYTES)
      note_version(file, at / SIM_SECTOR_BYTES);
  }
  file->seen_size = (size_t)size;
}

void sim_file_forget(struct sim_file *file) {
  if (file->capacity > 0)
    memcpy(file->seen, file->disk, file->capacity);
  file->seen_size = file->disk_size;
}

void sim_file_deinit(struct sim_file *file) {
  cg_free(file->seen);
  cg_free(file->disk);
  cg_free(file->versions);
  cg_free(file->is_noted);
}

/* Orders versions by sector, those of one sector by age: they lie in one array, so by address. */
static int compare_versions(const void *left, const void *right) {
  const struct sim_version *a = *(struct sim_version *const *)left,
                           *b = *(struct sim_version *const *)right;
  if (a->sector != b->sector)
    return a->sector < b->sector ? -1 : 1;
  return a < b ? -1 : a > b;
}

/* What a sector may have become: old, newest, any between, or torn. */
static void settle_sector(struct sim_file *file, uint64_t *random, struct sim_version **versions,
                          size_t count, unsigned kept_percent) {
  uint8_t *disk = file->disk + versions[0]->sector * SIM_SECTOR_BYTES;
  if (sim_file_random(random, 100) >= kept_percent)
    return;
  const uint8_t *chosen = versions[count - 1]->bytes;
  if (kept_percent < 100 && sim_file_random(random, 4) == 0)
    chosen = versions[sim_file_random(random, count)]->bytes;
  size_t torn = SIM_SECTOR_BYTES;
  if (kept_percent < 100 && sim_file_random(random, 8) == 0)
    torn = sim_file_random(random, SIM_SECTOR_BYTES);
  memcpy(disk, chosen, torn);
}

void sim_file_settle(struct sim_file *file, uint64_t *random) {
  struct sim_version **order = cg_alloc((file->version_count + 1) * sizeof(struct sim_version *));
  for (size_t index = 0; index < file->version_count; index++)
    order[index] = &file->versions[index];
  qsort(order, file->version_count, sizeof(*order), compare_versions);
  static const unsigned percents[] = {0, 10, 50, 50, 90, 100};
  unsigned kept_percent = percents[sim_file_random(random, 6)];
  for (size_t begin = 0; begin < file->version_count;) {
    size_t end = begin + 1;
    while (end < file->version_count && order[end]->sector == order[begin]->sector)
      end++;
    settle_sector(file, random, order + begin, end - begin, kept_percent);
    begin = end;
  }
  cg_free(order);
  forget_versions(file);

  size_t low = file->disk_size < file->seen_size ? file->disk_size : file->seen_size;
  size_t high = file->disk_size > file->seen_size ? file->disk_size : file->seen_size;
  if (kept_percent == 100)
    file->disk_size = file->seen_size;
  else if (sim_file_random(random, 2) == 0)
    file->disk_size = low + sim_file_random(random, high - low + 1);
  if (file->disk_size < file->capacity)
    memset(file->disk + file->disk_size, 0, file->capacity - file->disk_size);
}
