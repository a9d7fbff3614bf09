/* reserve.c - two slots of 16 bytes, each in a block of its own, written in turn: when power is
 * lost while one is written, the other still holds what was reserved before. */
#include "store/reserve.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/id.h"

#define RESERVE_BYTES 16
#define SLOT_COUNT 2
#define SLOT_DISTANCE 4096 /* Between the slots. */
#define PATH_BYTES 4096

/* Reads the slots; the highest time of a valid one, and which to write next. */
static int64_t read_slots(struct cg_reserve *reserve) {
  int64_t until_ms = 0;
  for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
    uint8_t bytes[RESERVE_BYTES] = {0};
    int64_t size = reserve->fs->pread(reserve->fs->arg, reserve->handle, bytes, sizeof(bytes),
                                      (uint64_t)slot * SLOT_DISTANCE);
    uint32_t crc;
    int64_t slot_ms;
    memcpy(&slot_ms, bytes, sizeof(slot_ms));
    memcpy(&crc, bytes + 8, sizeof(crc));
    if (size != (int64_t)sizeof(bytes) || crc != cg_crc32c(0, bytes, 8) || slot_ms < until_ms ||
        slot_ms > CG_ID_END_MS + CG_ID_RESERVE_MS)
      continue;
    until_ms = slot_ms;
    reserve->slot = (slot + 1) % SLOT_COUNT;
  }
  return until_ms;
}

enum cg_code cg_reserve_open(struct cg_reserve *reserve, const struct cg_fs *fs,
                             const char *directory, int64_t *until_ms, struct cg_err *err) {
  char path[PATH_BYTES];
  snprintf(path, sizeof(path), "%s/ids", directory);
  int handle = fs->open(fs->arg, path, CG_FS_OPEN_ALWAYS);
  if (handle < 0)
    return cg_err_set(err, cg_err_from_errno(-handle), "open %s: %s", path, strerror(-handle));

  *reserve = (struct cg_reserve){.fs = fs, .handle = handle};
  *until_ms = read_slots(reserve);
  int status = *until_ms == 0 ? fs->sync_dir(fs->arg, directory) : 0; /* The name may be new. */
  if (status == 0)
    return CG_OK;
  cg_reserve_close(reserve);
  return cg_err_set(err, CG_EIO, "sync directory %s: %s", directory, strerror(-status));
}

enum cg_code cg_reserve_store(void *arg, int64_t until_ms, struct cg_err *err) {
  struct cg_reserve *reserve = arg;
  const struct cg_fs *fs = reserve->fs;
  uint8_t bytes[RESERVE_BYTES] = {0};
  memcpy(bytes, &until_ms, sizeof(until_ms));
  uint32_t crc = cg_crc32c(0, bytes, 8);
  memcpy(bytes + 8, &crc, sizeof(crc));
  int64_t written = fs->pwrite(fs->arg, reserve->handle, bytes, sizeof(bytes),
                               (uint64_t)reserve->slot * SLOT_DISTANCE);
  int status = written == (int64_t)sizeof(bytes) ? fs->datasync(fs->arg, reserve->handle) : -1;
  if (status < 0)
    return cg_err_set(err, CG_EIO, "the reservation of ids (file `ids`) could not be stored");
  reserve->slot = (reserve->slot + 1) % SLOT_COUNT;
  return CG_OK;
}

void cg_reserve_close(struct cg_reserve *reserve) {
  if (reserve->handle < 0)
    return;
  reserve->fs->close(reserve->fs->arg, reserve->handle);
  reserve->handle = -1;
}
