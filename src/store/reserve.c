/* reserve.c - one 16-byte file, overwritten in place: it lies within one sector. */
#include "store/reserve.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"

#define RESERVE_BYTES 16
#define PATH_BYTES 4096

enum cg_code cg_reserve_open(struct cg_reserve *reserve, const struct cg_fs *fs,
                             const char *directory, int64_t *until_ms, struct cg_err *err) {
  char path[PATH_BYTES];
  snprintf(path, sizeof(path), "%s/ids", directory);
  int handle = fs->open(fs->arg, path, CG_FS_OPEN_ALWAYS);
  if (handle < 0)
    return cg_err_set(err, cg_err_from_errno(-handle), "open %s: %s", path, strerror(-handle));

  uint8_t bytes[RESERVE_BYTES];
  uint32_t crc;
  *until_ms = 0;
  if (fs->pread(fs->arg, handle, bytes, sizeof(bytes), 0) == (int64_t)sizeof(bytes)) {
    memcpy(&crc, bytes + 8, sizeof(crc));
    if (crc == cg_crc32c(0, bytes, 8))
      memcpy(until_ms, bytes, sizeof(*until_ms));
  }
  *reserve = (struct cg_reserve){.fs = fs, .handle = handle};
  return CG_OK;
}

enum cg_code cg_reserve_store(void *arg, int64_t until_ms, struct cg_err *err) {
  struct cg_reserve *reserve = arg;
  const struct cg_fs *fs = reserve->fs;
  uint8_t bytes[RESERVE_BYTES] = {0};
  memcpy(bytes, &until_ms, sizeof(until_ms));
  uint32_t crc = cg_crc32c(0, bytes, 8);
  memcpy(bytes + 8, &crc, sizeof(crc));
  int64_t written = fs->pwrite(fs->arg, reserve->handle, bytes, sizeof(bytes), 0);
  int status = written == (int64_t)sizeof(bytes) ? fs->datasync(fs->arg, reserve->handle) : -1;
  if (status < 0)
    return cg_err_set(err, CG_EIO, "the reservation of ids (file `ids`) could not be stored");
  return CG_OK;
}

void cg_reserve_close(struct cg_reserve *reserve) {
  if (reserve->handle < 0)
    return;
  reserve->fs->close(reserve->fs->arg, reserve->handle);
  reserve->handle = -1;
}
