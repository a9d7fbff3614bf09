/* keys_file.c - see keys_file.h for the bytes.
 *
 * A file is made under the name `keys.new` and renamed when it is whole, also when another master
 * key comes: the old file's bytes are then overwritten before it is let go.
 * Owns: see keys_file.h. Thread: the loop thread. */
#include "store/keys_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/io.h"
#include "base/mem.h"

#define FORMAT_VERSION 1
#define WINDOW_SLOTS 256 /* Read at once by a scan. */

static const uint8_t magic[8] = {'C', 'A', 'T', 'G', 'A', 'K', 'E', 'Y'};

static void put(uint8_t *at, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; i++)
    at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++)
    value |= (uint64_t)at[i] << (8 * i);
  return value;
}

uint64_t cg_keys_file_offset(uint64_t number) {
  return CG_KEYS_HEADER_BYTES + (number - 1) * CG_KEYS_SLOT_BYTES;
}

static enum cg_code fail(const struct cg_keys_file *file, const char *what, int status,
                         struct cg_err *err) {
  return cg_err_set(err, cg_err_from_errno(-status), "%s %s: %s", what, file->path,
                    strerror(-status));
}

/* --- slots --- */

enum cg_code cg_keys_file_encode(struct cg_keys_file *file, const struct cg_key_slot *slot,
                                 uint8_t bytes[CG_KEYS_SLOT_BYTES], struct cg_err *err) {
  memset(bytes, 0, CG_KEYS_SLOT_BYTES);
  put(bytes + 4, slot->state, 2);
  put(bytes + 6, slot->subject_size, 2);
  put(bytes + 8, slot->ref.number, 8);
  put(bytes + 16, slot->ref.tag, 8);
  put(bytes + 24, (uint64_t)slot->time_ms, 8);
  memcpy(bytes + 32, slot->digest, sizeof(slot->digest));
  memcpy(bytes + 128, slot->subject, slot->subject_size);
  if (slot->state == CG_KEY_LIVES && file->is_wrapped) {
    struct cg_cipher_text text = {
        .bound = bytes + 4, .bound_size = 60, .bytes = slot->secret, .size = sizeof(slot->secret)};
    cg_cipher_random(bytes + 64, CG_CIPHER_NONCE_BYTES);
    enum cg_code code =
        cg_cipher_seal(file->cipher, file->master, bytes + 64, &text, bytes + 76, bytes + 108, err);
    if (code != CG_OK)
      return code;
  } else if (slot->state == CG_KEY_LIVES) {
    memcpy(bytes + 76, slot->secret, sizeof(slot->secret));
  }
  put(bytes, cg_crc32c(0, bytes + 4, CG_KEYS_SLOT_BYTES - 4), 4);
  return CG_OK;
}

static bool is_zero(const uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (bytes[i] != 0)
      return false;
  return true;
}

static enum cg_code decode(struct cg_keys_file *file, uint64_t number, const uint8_t *bytes,
                           struct cg_key_slot *slot, struct cg_err *err) {
  *slot = (struct cg_key_slot){.state = CG_KEY_NONE};
  if (is_zero(bytes, CG_KEYS_SLOT_BYTES))
    return CG_OK;
  uint64_t state = get(bytes + 4, 2), size = get(bytes + 6, 2);
  if (get(bytes, 4) != cg_crc32c(0, bytes + 4, CG_KEYS_SLOT_BYTES - 4) ||
      get(bytes + 8, 8) != number || size > CG_KEYS_SUBJECT_BYTES_MAX ||
      (state != CG_KEY_LIVES && state != CG_KEY_FORGOTTEN))
    goto damaged;
  slot->ref = (struct cg_keys_ref){.number = number, .tag = get(bytes + 16, 8)};
  slot->time_ms = (int64_t)get(bytes + 24, 8);
  memcpy(slot->digest, bytes + 32, sizeof(slot->digest));
  slot->subject_size = size;
  memcpy(slot->subject, bytes + 128, size);
  if (state == CG_KEY_LIVES && file->is_wrapped) {
    struct cg_cipher_text text = {
        .bound = bytes + 4, .bound_size = 60, .bytes = bytes + 76, .size = CG_CIPHER_KEY_BYTES};
    if (cg_cipher_unseal(file->cipher, file->master, bytes + 64, &text, slot->secret, bytes + 108,
                         NULL) != CG_OK)
      goto damaged;
  } else if (state == CG_KEY_LIVES) {
    memcpy(slot->secret, bytes + 76, sizeof(slot->secret));
  }
  slot->state = (enum cg_key_state)state;
  return CG_OK;

damaged:
  *slot = (struct cg_key_slot){.state = CG_KEY_NONE};
  return cg_err_set(err, CG_ECORRUPT, "%s: key %llu is damaged; bring back a backup of the file",
                    file->path, (unsigned long long)number);
}

enum cg_code cg_keys_file_read(struct cg_keys_file *file, uint64_t number, struct cg_key_slot *slot,
                               struct cg_err *err) {
  uint8_t bytes[CG_KEYS_SLOT_BYTES] = {0};
  *slot = (struct cg_key_slot){.state = CG_KEY_NONE};
  if (file->handle < 0 || number == 0 || number > file->count)
    return CG_OK;
  int64_t size =
      cg_io_read(file->fs, file->handle, bytes, sizeof(bytes), cg_keys_file_offset(number));
  enum cg_code code =
      size < 0 ? fail(file, "read", (int)size, err) : decode(file, number, bytes, slot, err);
  explicit_bzero(bytes, sizeof(bytes));
  return code;
}

enum cg_code cg_keys_file_scan(struct cg_keys_file *file, cg_keys_file_slot_fn each, void *arg,
                               struct cg_err *err) {
  size_t window_bytes = WINDOW_SLOTS * CG_KEYS_SLOT_BYTES;
  uint8_t *window = cg_alloc(window_bytes);
  struct cg_key_slot slot;
  enum cg_code code = CG_OK;
  for (uint64_t first = 1; first <= file->count && code == CG_OK; first += WINDOW_SLOTS) {
    memset(window, 0, window_bytes);
    int64_t size =
        cg_io_read(file->fs, file->handle, window, window_bytes, cg_keys_file_offset(first));
    if (size < 0)
      code = fail(file, "read", (int)size, err);
    for (uint64_t i = 0; i < WINDOW_SLOTS && first + i <= file->count && code == CG_OK; i++) {
      enum cg_code found = decode(file, first + i, window + i * CG_KEYS_SLOT_BYTES, &slot, NULL);
      each(arg, first + i, found, &slot);
    }
  }
  explicit_bzero(&slot, sizeof(slot));
  explicit_bzero(window, window_bytes);
  cg_free(window);
  return code;
}

/* --- the file --- */

static enum cg_code encode_header(struct cg_keys_file *file, uint8_t bytes[CG_KEYS_HEADER_BYTES],
                                  struct cg_err *err) {
  static const uint8_t zeros[32];
  memset(bytes, 0, CG_KEYS_HEADER_BYTES);
  memcpy(bytes, magic, sizeof(magic));
  put(bytes + 8, FORMAT_VERSION, 4);
  put(bytes + 12, CG_KEYS_SLOT_BYTES, 4);
  memcpy(bytes + 16, file->salt, sizeof(file->salt));
  put(bytes + 32, file->is_wrapped, 4);
  if (file->is_wrapped) {
    struct cg_cipher_text text = {
        .bound = bytes, .bound_size = 36, .bytes = zeros, .size = sizeof(zeros)};
    cg_cipher_random(bytes + 36, CG_CIPHER_NONCE_BYTES);
    enum cg_code code =
        cg_cipher_seal(file->cipher, file->master, bytes + 36, &text, bytes + 48, bytes + 80, err);
    if (code != CG_OK)
      return code;
  }
  put(bytes + 96, cg_crc32c(0, bytes, 96), 4);
  return CG_OK;
}

/* Does this master key open the file with that header? */
static bool is_master(struct cg_keys_file *file, const uint8_t *master, const uint8_t *header) {
  uint8_t zeros[32];
  struct cg_cipher_text text = {
      .bound = header, .bound_size = 36, .bytes = header + 48, .size = sizeof(zeros)};
  return master != NULL && cg_cipher_unseal(file->cipher, master, header + 36, &text, zeros,
                                            header + 80, NULL) == CG_OK;
}

/* Checks the header; sets salt, is_wrapped and the master key that the file has now. */
static enum cg_code read_header(struct cg_keys_file *file, const struct cg_keys_options *options,
                                struct cg_err *err) {
  uint8_t header[CG_KEYS_HEADER_BYTES] = {0};
  int64_t size = cg_io_read(file->fs, file->handle, header, sizeof(header), 0);
  if (size < 0)
    return fail(file, "read", (int)size, err);
  if (size < (int64_t)sizeof(header) || memcmp(header, magic, sizeof(magic)) != 0 ||
      get(header + 96, 4) != cg_crc32c(0, header, 96))
    return cg_err_set(err, CG_ECORRUPT,
                      "%s: the header is damaged; bring back a backup of the file", file->path);
  if (get(header + 8, 4) != FORMAT_VERSION || get(header + 12, 4) != CG_KEYS_SLOT_BYTES)
    return cg_err_set(err, CG_EINVAL, "%s was written by a newer version of the program",
                      file->path);
  memcpy(file->salt, header + 16, sizeof(file->salt));
  file->is_wrapped = get(header + 32, 4) != 0;
  if (!file->is_wrapped)
    return CG_OK;
  const uint8_t *master = is_master(file, options->master, header)       ? options->master
                          : is_master(file, options->master_old, header) ? options->master_old
                                                                         : NULL;
  if (master == NULL)
    return cg_err_set(err, CG_EINVAL,
                      options->master == NULL
                          ? "%s: a master key wraps the keys; name its file in "
                            "CATGA_MASTER_KEY_FILE"
                          : "%s: another master key wraps the keys; to change it, name the file of "
                            "the one before in CATGA_MASTER_KEY_FILE_OLD",
                      file->path);
  memcpy(file->master, master, sizeof(file->master));
  return CG_OK;
}

/* Where copying to a file that is being made stands. */
struct copy {
  struct cg_keys_file *to; /* The new file. */
  enum cg_code code;       /* The first failure. */
  struct cg_err *err;      /* Why. */
};

/* Damaged slots are left out: their bytes prove nothing under another master key. */
static void copy_slot(void *arg, uint64_t number, enum cg_code code,
                      const struct cg_key_slot *slot) {
  struct copy *copy = arg;
  uint8_t bytes[CG_KEYS_SLOT_BYTES];
  if (copy->code != CG_OK || code != CG_OK || slot->state == CG_KEY_NONE)
    return;
  copy->code = cg_keys_file_encode(copy->to, slot, bytes, copy->err);
  int status = copy->code != CG_OK ? 0
                                   : cg_io_write(copy->to->fs, copy->to->handle, bytes,
                                                 sizeof(bytes), cg_keys_file_offset(number));
  if (status < 0)
    copy->code = fail(copy->to, "write", status, copy->err);
  explicit_bzero(bytes, sizeof(bytes));
}

/* Makes `file`, with the slots of `from` unless it is NULL, and gives it its name. */
static enum cg_code make_file(struct cg_keys_file *file, struct cg_keys_file *from,
                              const char *directory, struct cg_err *err) {
  const struct cg_fs *fs = file->fs;
  uint8_t header[CG_KEYS_HEADER_BYTES];
  char path[CG_KEYS_PATH_BYTES + 8];
  snprintf(path, sizeof(path), "%s.new", file->path);
  file->handle = fs->open(fs->arg, path, CG_FS_OPEN_PRIVATE);
  if (file->handle < 0)
    return fail(file, "make", file->handle, err);
  enum cg_code code = encode_header(file, header, err);
  if (code != CG_OK)
    return code;
  int status = fs->truncate(fs->arg, file->handle, 0); /* A crash may have left one. */
  if (status == 0)
    status = cg_io_write(fs, file->handle, header, sizeof(header), 0);
  if (status == 0 && from != NULL) {
    struct copy copy = {.to = file, .code = CG_OK, .err = err};
    code = cg_keys_file_scan(from, copy_slot, &copy, err);
    if (code == CG_OK)
      code = copy.code;
    if (code != CG_OK)
      return code;
    file->count = from->count;
  }
  if (status == 0)
    status = cg_io_sync(fs, file->handle);
  if (status == 0)
    status = cg_io_rename(fs, path, file->path);
  if (status == 0)
    status = fs->sync_dir(fs->arg, directory);
  return status == 0 ? CG_OK : fail(file, "make", status, err);
}

/* Overwrites what the file holds, so that its keys are not left on the disk. */
static enum cg_code overwrite(struct cg_keys_file *file, struct cg_err *err) {
  static const uint8_t zeros[CG_KEYS_SLOT_BYTES];
  int status = 0;
  for (uint64_t number = 1; number <= file->count && status == 0; number++)
    status = cg_io_write(file->fs, file->handle, zeros, sizeof(zeros), cg_keys_file_offset(number));
  if (status == 0)
    status = cg_io_sync(file->fs, file->handle);
  return status == 0 ? CG_OK : fail(file, "overwrite", status, err);
}

static void set_master(struct cg_keys_file *file, const uint8_t *master) {
  file->is_wrapped = master != NULL;
  if (master != NULL)
    memcpy(file->master, master, sizeof(file->master));
}

/* Writes the file anew for the master key of the options. */
static enum cg_code rewrap(struct cg_keys_file *file, const struct cg_keys_options *options,
                           struct cg_err *err) {
  struct cg_keys_file old = *file;
  file->handle = -1;
  set_master(file, options->master);
  enum cg_code code = make_file(file, &old, options->directory, err);
  if (code == CG_OK)
    code = overwrite(&old, err);
  old.fs->close(old.fs->arg, old.handle);
  explicit_bzero(&old, sizeof(old));
  return code;
}

static enum cg_code open_existing(struct cg_keys_file *file, const struct cg_keys_options *options,
                                  struct cg_err *err) {
  int64_t size = file->fs->size(file->fs->arg, file->handle);
  if (size < 0)
    return fail(file, "size of", (int)size, err);
  if (size > CG_KEYS_HEADER_BYTES)
    file->count =
        ((uint64_t)size - CG_KEYS_HEADER_BYTES + CG_KEYS_SLOT_BYTES - 1) / CG_KEYS_SLOT_BYTES;
  char left_over[CG_KEYS_PATH_BYTES + 8];
  snprintf(left_over, sizeof(left_over), "%s.new", file->path);
  int status = file->fs->unlink(file->fs->arg, left_over); /* Of a crash; it may hold keys. */
  if (status < 0 && status != -ENOENT)
    return fail(file, "remove the left-over beside", status, err);
  enum cg_code code = read_header(file, options, err);
  if (code != CG_OK || options->master == NULL ||
      (file->is_wrapped && memcmp(file->master, options->master, sizeof(file->master)) == 0))
    return code;
  return rewrap(file, options, err);
}

enum cg_code cg_keys_file_open(struct cg_keys_file *file, const struct cg_keys_options *options,
                               struct cg_cipher *cipher, struct cg_err *err) {
  *file = (struct cg_keys_file){.fs = options->fs, .cipher = cipher, .handle = -1};
  if (file->fs == NULL)
    file->fs = cg_fs_system();
  snprintf(file->path, sizeof(file->path), "%s/keys",
           options->directory != NULL ? options->directory : "memory");
  cg_cipher_random(file->salt, sizeof(file->salt));
  if (options->directory == NULL)
    return CG_OK;
  file->handle = file->fs->open(file->fs->arg, file->path, CG_FS_WRITE);
  enum cg_code code;
  if (file->handle >= 0) {
    code = open_existing(file, options, err);
  } else if (file->handle == -ENOENT) {
    set_master(file, options->master);
    code = make_file(file, NULL, options->directory, err);
  } else {
    code = fail(file, "open", file->handle, err);
  }
  if (code != CG_OK)
    cg_keys_file_close(file);
  return code;
}

void cg_keys_file_close(struct cg_keys_file *file) {
  if (file->handle >= 0)
    file->fs->close(file->fs->arg, file->handle);
  explicit_bzero(file, sizeof(*file));
  file->handle = -1;
}
