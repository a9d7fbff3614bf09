/* keys_master.c - reading a master key out of its file.
 *
 * Owns: nothing. Thread: any. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "store/keys.h"

#define HEX_DIGITS (2 * CG_KEYS_MASTER_BYTES)

static int digit_of(uint8_t letter) {
  if (letter >= '0' && letter <= '9')
    return letter - '0';
  letter = (uint8_t)tolower(letter);
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* True when the bytes are the digits of a key. */
static bool read_digits(const uint8_t *bytes, size_t size, uint8_t *master) {
  while (size > HEX_DIGITS && (bytes[size - 1] == '\n' || bytes[size - 1] == '\r'))
    size--;
  if (size != HEX_DIGITS)
    return false;
  for (size_t i = 0; i < CG_KEYS_MASTER_BYTES; i++) {
    int high = digit_of(bytes[2 * i]), low = digit_of(bytes[2 * i + 1]);
    if (high < 0 || low < 0)
      return false;
    master[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}

enum cg_code cg_keys_master_read(const char *path, uint8_t master[CG_KEYS_MASTER_BYTES],
                                 struct cg_err *err) {
  uint8_t bytes[HEX_DIGITS + 8];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd >= 0 ? read(fd, bytes, sizeof(bytes)) : -1;
  enum cg_code code = CG_OK;
  if (size < 0)
    code = cg_err_set(err, cg_err_from_errno(errno), "read the master key %s: %s", path,
                      strerror(errno));
  else if (size == CG_KEYS_MASTER_BYTES)
    memcpy(master, bytes, CG_KEYS_MASTER_BYTES);
  else if (!read_digits(bytes, (size_t)size, master))
    code = cg_err_set(err, CG_EINVAL,
                      "the master key %s is not 32 bytes or 64 hexadecimal digits; make one by "
                      "head -c 32 /dev/urandom",
                      path);
  if (fd >= 0)
    close(fd);
  explicit_bzero(bytes, sizeof(bytes));
  return code;
}
