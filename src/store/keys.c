/* keys.c - subjects to keys in memory, and the changes that wait for the disk.
 *
 * The index maps the first half of a subject's digest to the number of its newest key; the keys
 * themselves are read when they are used and kept in a cache, the longest unused of which goes
 * first. A key whose slot is not durable yet, and every key of a store in memory, stays.
 * Changes wait as whole images of slots, in the order in which they were made. A batch takes them
 * out and puts them back in front when it could not be written.
 * Owns: see keys.h. Thread: the loop thread, but for cg_keys_batch_write. */
#include "store/keys.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/keys_file.h"

#define INDEX_BYTES 16 /* Of the digest. */

/* A key in memory. */
struct entry {
  struct cg_key_slot slot; /* As in the file, or as it will be. */
  uint64_t change;         /* The change that has to be durable before it may leave the cache. */
  struct entry *newer;     /* Used after it; NULL: it is the newest. */
  struct entry *older;     /* Used before it. */
};

/* A change that waits. */
struct image {
  uint64_t number;                   /* Of the slot. */
  uint8_t bytes[CG_KEYS_SLOT_BYTES]; /* What it becomes. */
};

/* Changes in order. */
struct images {
  struct image *list; /* NULL while capacity is 0. */
  uint32_t count;     /* In use. */
  uint32_t capacity;  /* Allocated. */
};

/* What is being written. */
struct cg_keys_batch {
  const struct cg_fs *fs; /* The files. */
  int handle;             /* Of the file. */
  struct images images;   /* Taken out of the keys. */
  int write_status;       /* 0 or a negative errno. */
  int sync_status;        /* 0, a negative errno, or 0 when it did not come to that. */
};

/* The keys of a store. */
struct cg_keys {
  struct cg_cipher *cipher;    /* Of all encryption. */
  struct cg_keys_file file;    /* Where they are kept. */
  struct cg_map *index;        /* Digest to number. */
  struct cg_map *cached;       /* Number to struct entry. */
  struct entry *newest;        /* Of the cache. */
  struct entry *oldest;        /* Its end. */
  uint32_t cached_max;         /* Entries in the cache, unless more must stay. */
  uint64_t last;               /* Highest number given. */
  uint64_t damaged_count;      /* Slots that the scan found damaged. */
  struct images pending;       /* Changes that wait. */
  uint64_t queued;             /* Changes made. */
  uint64_t durable;            /* Changes that are on the disk. */
  struct cg_keys_batch *batch; /* The one under way, or NULL. */
  struct cg_err failure;       /* Code CG_OK until a sync has failed. */
};

/* --- changes that wait --- */

static void wipe_images(struct images *images) {
  if (images->list != NULL)
    explicit_bzero(images->list, images->capacity * sizeof(images->list[0]));
  cg_free(images->list);
  *images = (struct images){.list = NULL};
}

/* Not by realloc, which could leave a copy of keys behind. */
static void reserve_images(struct images *images, uint32_t count) {
  if (count <= images->capacity)
    return;
  struct images larger = {.count = images->count, .capacity = 16};
  while (larger.capacity < count)
    larger.capacity *= 2;
  larger.list = cg_alloc(larger.capacity * sizeof(larger.list[0]));
  if (images->count > 0)
    memcpy(larger.list, images->list, images->count * sizeof(larger.list[0]));
  wipe_images(images);
  *images = larger;
}

static enum cg_code check_change(const struct cg_keys *keys, struct cg_err *err) {
  if (keys->failure.code != CG_OK)
    return cg_keys_failed(keys, err);
  if (keys->queued - keys->durable >= CG_KEYS_PENDING_MAX)
    return cg_err_set(err, CG_ELIMIT, "%u changes of keys wait for the disk already (%s)",
                      CG_KEYS_PENDING_MAX, keys->file.path);
  return CG_OK;
}

/* Queues the entry's slot; check_change was CG_OK. */
static enum cg_code queue(struct cg_keys *keys, struct entry *entry, struct cg_err *err) {
  if (keys->file.handle < 0) { /* In memory there is nothing to wait for. */
    keys->durable = ++keys->queued;
    return CG_OK;
  }
  reserve_images(&keys->pending, keys->pending.count + 1);
  struct image *image = &keys->pending.list[keys->pending.count];
  enum cg_code code = cg_keys_file_encode(&keys->file, &entry->slot, image->bytes, err);
  if (code != CG_OK)
    return code;
  image->number = entry->slot.ref.number;
  keys->pending.count++;
  entry->change = ++keys->queued;
  return CG_OK;
}

/* --- the cache --- */

static void unlink_entry(struct cg_keys *keys, struct entry *entry) {
  if (entry->newer != NULL)
    entry->newer->older = entry->older;
  else
    keys->newest = entry->older;
  if (entry->older != NULL)
    entry->older->newer = entry->newer;
  else
    keys->oldest = entry->newer;
}

static void link_newest(struct cg_keys *keys, struct entry *entry) {
  entry->newer = NULL;
  entry->older = keys->newest;
  if (keys->newest != NULL)
    keys->newest->newer = entry;
  else
    keys->oldest = entry;
  keys->newest = entry;
}

static void free_entry(struct cg_keys *keys, struct entry *entry) {
  unlink_entry(keys, entry);
  cg_map_remove(keys->cached, &entry->slot.ref.number, sizeof(entry->slot.ref.number));
  explicit_bzero(entry, sizeof(*entry));
  cg_free(entry);
}

static struct entry *find_entry(struct cg_keys *keys, uint64_t number) {
  uint64_t *value = cg_map_find(keys->cached, &number, sizeof(number));
  return value != NULL ? (struct entry *)(uintptr_t)*value : NULL;
}

/* Adds a slot to the cache; the longest unused ones go if there are too many. */
static struct entry *add_entry(struct cg_keys *keys, const struct cg_key_slot *slot) {
  struct entry *oldest = keys->oldest;
  while (oldest != NULL && keys->file.handle >= 0 &&
         cg_map_count(keys->cached) >= keys->cached_max) {
    struct entry *next = oldest->newer;
    if (oldest->change <= keys->durable)
      free_entry(keys, oldest);
    oldest = next;
  }
  struct entry *entry = cg_alloc(sizeof(*entry));
  entry->slot = *slot;
  uint64_t number = slot->ref.number;
  *cg_map_put(keys->cached, &number, sizeof(number), NULL) = (uint64_t)(uintptr_t)entry;
  link_newest(keys, entry);
  return entry;
}

/* The entry of a number, read when it is not there. CG_ENOTFOUND: no such key was ever made. */
static enum cg_code acquire(struct cg_keys *keys, uint64_t number, struct entry **out,
                            struct cg_err *err) {
  struct entry *entry = find_entry(keys, number);
  if (entry != NULL) {
    unlink_entry(keys, entry);
    link_newest(keys, entry);
    *out = entry;
    return CG_OK;
  }
  struct cg_key_slot slot;
  enum cg_code code = cg_keys_file_read(&keys->file, number, &slot, err);
  if (code == CG_OK && slot.state == CG_KEY_NONE)
    code = cg_err_set(err, CG_ENOTFOUND,
                      "key %" PRIu64 " is not in %s; bring back a backup of this file that is not "
                      "older than the data",
                      number, keys->file.path);
  if (code == CG_OK)
    *out = add_entry(keys, &slot);
  explicit_bzero(&slot, sizeof(slot));
  return code;
}

/* The same for a ref, whose tag must fit. */
static enum cg_code acquire_ref(struct cg_keys *keys, const struct cg_keys_ref *ref,
                                struct entry **out, struct cg_err *err) {
  enum cg_code code = acquire(keys, ref->number, out, err);
  if (code == CG_OK && (*out)->slot.ref.tag != ref->tag)
    return cg_err_set(err, CG_ENOTFOUND,
                      "key %" PRIu64 " in %s is another one; bring back a backup of this file that "
                      "is not older than the data",
                      ref->number, keys->file.path);
  return code;
}

/* --- opening --- */

/* A slot that the scan has found. */
static void take_slot(void *arg, uint64_t number, enum cg_code code,
                      const struct cg_key_slot *slot) {
  struct cg_keys *keys = arg;
  if (code != CG_OK)
    keys->damaged_count++;
  else if (slot->state != CG_KEY_NONE)
    *cg_map_put(keys->index, slot->digest, INDEX_BYTES, NULL) = number;
}

enum cg_code cg_keys_open(struct cg_keys **out, const struct cg_keys_options *options,
                          struct cg_err *err) {
  struct cg_keys *keys = cg_alloc(sizeof(*keys));
  uint64_t seed;
  cg_cipher_random(&seed, sizeof(seed));
  keys->file.handle = -1;
  keys->index = cg_map_new(seed);
  keys->cached = cg_map_new(seed);
  keys->cached_max =
      options->cached_max > CG_KEYS_CACHED_MIN ? options->cached_max : CG_KEYS_CACHED_MIN;
  enum cg_code code = cg_cipher_open(&keys->cipher, err);
  if (code == CG_OK)
    code = cg_keys_file_open(&keys->file, options, keys->cipher, err);
  if (code == CG_OK)
    code = cg_keys_file_scan(&keys->file, take_slot, keys, err);
  if (code != CG_OK) {
    cg_keys_close(keys);
    return code;
  }
  keys->last = keys->file.count;
  *out = keys;
  return CG_OK;
}

void cg_keys_close(struct cg_keys *keys) {
  if (keys == NULL)
    return;
  assert(keys->batch == NULL);
  while (keys->newest != NULL)
    free_entry(keys, keys->newest);
  wipe_images(&keys->pending);
  cg_map_free(keys->index);
  cg_map_free(keys->cached);
  cg_keys_file_close(&keys->file);
  cg_cipher_close(keys->cipher);
  cg_free(keys);
}

uint64_t cg_keys_damaged_count(const struct cg_keys *keys) {
  return keys->damaged_count;
}

/* --- keys of subjects --- */

enum cg_code cg_keys_digest(struct cg_keys *keys, const char *subject, size_t size,
                            uint8_t digest[CG_KEYS_DIGEST_BYTES], struct cg_err *err) {
  if (size == 0 || size > CG_KEYS_SUBJECT_BYTES_MAX)
    return cg_err_set(err, CG_EINVAL, "a subject has 1 to %d bytes, not %zu",
                      CG_KEYS_SUBJECT_BYTES_MAX, size);
  return cg_cipher_digest(keys->cipher, keys->file.salt, sizeof(keys->file.salt), subject, size,
                          digest, err);
}

static enum cg_code find_digest(struct cg_keys *keys, const uint8_t *digest,
                                struct cg_keys_ref *ref, struct cg_err *err) {
  uint64_t *number = cg_map_find(keys->index, digest, INDEX_BYTES);
  struct entry *entry;
  if (number == NULL)
    return cg_err_set(err, CG_ENOTFOUND, "there is no key of this subject");
  enum cg_code code = acquire(keys, *number, &entry, err);
  if (code != CG_OK)
    return code == CG_ENOTFOUND ? cg_err_set(err, CG_ECORRUPT,
                                             "%s has lost a key since it was "
                                             "opened",
                                             keys->file.path)
                                : code;
  *ref = entry->slot.ref;
  if (entry->slot.state == CG_KEY_FORGOTTEN)
    return cg_err_set(err, CG_EFORGOTTEN, "this subject was forgotten; its key is destroyed");
  return CG_OK;
}

enum cg_code cg_keys_find(struct cg_keys *keys, const char *subject, size_t size,
                          struct cg_keys_ref *ref, struct cg_err *err) {
  uint8_t digest[CG_CIPHER_DIGEST_BYTES];
  enum cg_code code = cg_keys_digest(keys, subject, size, digest, err);
  return code == CG_OK ? find_digest(keys, digest, ref, err) : code;
}

enum cg_code cg_keys_make(struct cg_keys *keys, const char *subject, size_t size, int64_t now_ms,
                          struct cg_keys_ref *ref, struct cg_err *err) {
  struct cg_key_slot slot = {.state = CG_KEY_LIVES, .time_ms = now_ms};
  enum cg_code code = cg_keys_digest(keys, subject, size, slot.digest, err);
  if (code != CG_OK)
    return code;
  code = find_digest(keys, slot.digest, ref, err);
  if (code != CG_ENOTFOUND && code != CG_EFORGOTTEN)
    return code;
  code = check_change(keys, err);
  if (code != CG_OK)
    return code;
  slot.ref.number = keys->last + 1;
  cg_cipher_random(&slot.ref.tag, sizeof(slot.ref.tag));
  cg_cipher_random(slot.secret, sizeof(slot.secret));
  memcpy(slot.subject, subject, size);
  slot.subject_size = size;
  struct entry *entry = add_entry(keys, &slot);
  explicit_bzero(&slot.secret, sizeof(slot.secret));
  code = queue(keys, entry, err);
  if (code != CG_OK) {
    free_entry(keys, entry);
    return code;
  }
  keys->last++;
  *cg_map_put(keys->index, slot.digest, INDEX_BYTES, NULL) = slot.ref.number;
  *ref = slot.ref;
  return CG_OK;
}

/* What a key becomes: everything about the person goes, its name among the keys stays. */
static struct cg_key_slot tombstone_of(const struct cg_key_slot *slot, int64_t now_ms) {
  struct cg_key_slot tombstone = {.state = CG_KEY_FORGOTTEN, .ref = slot->ref, .time_ms = now_ms};
  memcpy(tombstone.digest, slot->digest, sizeof(tombstone.digest));
  return tombstone;
}

/* The entry that is to become a tombstone when the ref's own slot is damaged, or not there. */
static struct entry *stand_in(struct cg_keys *keys, const struct cg_keys_ref *ref,
                              const uint8_t *digest, bool is_missing) {
  struct cg_key_slot slot = {.state = CG_KEY_LIVES, .ref = *ref};
  if (digest != NULL)
    memcpy(slot.digest, digest, sizeof(slot.digest));
  if (is_missing) {
    if (digest == NULL || cg_map_find(keys->index, digest, INDEX_BYTES) != NULL)
      return NULL; /* It is known already, or cannot be. */
    slot.ref.number = ++keys->last;
  }
  if (digest != NULL)
    *cg_map_put(keys->index, digest, INDEX_BYTES, NULL) = slot.ref.number;
  return add_entry(keys, &slot);
}

enum cg_code cg_keys_forget(struct cg_keys *keys, const struct cg_keys_ref *ref,
                            const uint8_t *digest, int64_t now_ms, struct cg_err *err) {
  struct entry *entry;
  enum cg_code found = acquire_ref(keys, ref, &entry, err);
  if (found == CG_OK && entry->slot.state == CG_KEY_FORGOTTEN)
    return CG_OK;
  if (found != CG_OK && found != CG_ECORRUPT && found != CG_ENOTFOUND)
    return found;
  enum cg_code code = check_change(keys, err);
  if (code != CG_OK)
    return code;
  if (found != CG_OK)
    entry = stand_in(keys, ref, digest, found == CG_ENOTFOUND);
  if (entry != NULL) {
    entry->slot = tombstone_of(&entry->slot, now_ms);
    code = queue(keys, entry, err);
  }
  return code == CG_OK && found == CG_ENOTFOUND ? found : code;
}

/* --- encryption --- */

/* The entry of a key that lives. */
static enum cg_code acquire_living(struct cg_keys *keys, const struct cg_keys_ref *ref,
                                   struct entry **entry, struct cg_err *err) {
  enum cg_code code = acquire_ref(keys, ref, entry, err);
  if (code == CG_OK && (*entry)->slot.state != CG_KEY_LIVES)
    return cg_err_set(err, CG_EFORGOTTEN, "this subject was forgotten; its key is destroyed");
  return code;
}

enum cg_code cg_keys_seal(struct cg_keys *keys, const struct cg_keys_ref *ref, const void *bound,
                          size_t bound_size, const void *plain, size_t size, struct cg_buf *out,
                          struct cg_err *err) {
  struct entry *entry;
  enum cg_code code = acquire_living(keys, ref, &entry, err);
  if (code != CG_OK)
    return code;
  struct cg_cipher_text text = {
      .bound = bound, .bound_size = bound_size, .bytes = plain, .size = size};
  uint8_t *nonce = cg_buf_room(out, size + CG_KEYS_SEALED_BYTES_MORE);
  uint8_t *bytes = nonce + CG_CIPHER_NONCE_BYTES;
  cg_cipher_random(nonce, CG_CIPHER_NONCE_BYTES);
  code = cg_cipher_seal(keys->cipher, entry->slot.secret, nonce, &text, bytes, bytes + size, err);
  if (code == CG_OK)
    out->size += size + CG_KEYS_SEALED_BYTES_MORE;
  return code;
}

enum cg_code cg_keys_unseal(struct cg_keys *keys, const struct cg_keys_ref *ref, const void *bound,
                            size_t bound_size, const void *sealed, size_t size, struct cg_buf *out,
                            struct cg_err *err) {
  struct entry *entry;
  enum cg_code code = acquire_living(keys, ref, &entry, err);
  if (code != CG_OK)
    return code;
  if (size < CG_KEYS_SEALED_BYTES_MORE)
    return cg_err_set(err, CG_ECORRUPT, "the encrypted bytes are cut");
  const uint8_t *nonce = sealed;
  size_t plain_size = size - CG_KEYS_SEALED_BYTES_MORE;
  struct cg_cipher_text text = {.bound = bound,
                                .bound_size = bound_size,
                                .bytes = nonce + CG_CIPHER_NONCE_BYTES,
                                .size = plain_size};
  code =
      cg_cipher_unseal(keys->cipher, entry->slot.secret, nonce, &text, cg_buf_room(out, plain_size),
                       nonce + CG_CIPHER_NONCE_BYTES + plain_size, err);
  if (code == CG_OK)
    out->size += plain_size;
  return code;
}

/* --- listing and names --- */

enum cg_code cg_keys_next(struct cg_keys *keys, uint64_t *cursor, uint32_t look_max,
                          struct cg_keys_info *info, struct cg_err *err) {
  struct cg_key_slot slot = {.state = CG_KEY_NONE};
  enum cg_code code = CG_ENOTFOUND;
  for (; look_max > 0 && *cursor < keys->last && code == CG_ENOTFOUND; look_max--) {
    uint64_t number = ++*cursor;
    struct entry *entry = find_entry(keys, number);
    enum cg_code found = CG_OK;
    if (entry != NULL)
      slot = entry->slot;
    else
      found = cg_keys_file_read(&keys->file, number, &slot, err);
    if (found != CG_OK && found != CG_ECORRUPT)
      return found;
    if (found == CG_OK && slot.state != CG_KEY_NONE)
      code = CG_OK;
  }
  explicit_bzero(slot.secret, sizeof(slot.secret));
  if (code != CG_OK)
    return *cursor < keys->last ? CG_ENOTFOUND : CG_END;
  *info = (struct cg_keys_info){.ref = slot.ref,
                                .time_ms = slot.time_ms,
                                .is_forgotten = slot.state == CG_KEY_FORGOTTEN,
                                .subject_size = slot.subject_size};
  memcpy(info->subject, slot.subject, slot.subject_size);
  return CG_OK;
}

void cg_keys_ref_format(const struct cg_keys_ref *ref, char text[CG_KEYS_REF_CHARS]) {
  snprintf(text, CG_KEYS_REF_CHARS, "%" PRIu64 "-%016" PRIx64, ref->number, ref->tag);
}

bool cg_keys_ref_parse(const char *text, size_t size, struct cg_keys_ref *ref) {
  char copy[CG_KEYS_REF_CHARS], again[CG_KEYS_REF_CHARS];
  if (size == 0 || size >= sizeof(copy))
    return false;
  memcpy(copy, text, size);
  copy[size] = 0;
  if (sscanf(copy, "%20" SCNu64 "-%16" SCNx64, &ref->number, &ref->tag) != 2)
    return false;
  cg_keys_ref_format(ref, again); /* Only the one way of writing it. */
  return strlen(copy) == size && strcmp(copy, again) == 0;
}

/* --- writing --- */

uint64_t cg_keys_queued(const struct cg_keys *keys) {
  return keys->queued;
}

uint64_t cg_keys_durable(const struct cg_keys *keys) {
  return keys->durable;
}

enum cg_code cg_keys_failed(const struct cg_keys *keys, struct cg_err *err) {
  if (keys->failure.code != CG_OK && err != NULL)
    *err = keys->failure;
  return keys->failure.code;
}

struct cg_keys_batch *cg_keys_batch_begin(struct cg_keys *keys) {
  if (keys->batch != NULL || keys->pending.count == 0 || keys->failure.code != CG_OK)
    return NULL;
  struct cg_keys_batch *batch = cg_alloc(sizeof(*batch));
  batch->fs = keys->file.fs;
  batch->handle = keys->file.handle;
  batch->images = keys->pending;
  keys->pending = (struct images){.list = NULL};
  keys->batch = batch;
  return batch;
}

void cg_keys_batch_write(struct cg_keys_batch *batch) {
  for (uint32_t i = 0; i < batch->images.count && batch->write_status == 0; i++) {
    const struct image *image = &batch->images.list[i];
    batch->write_status = cg_io_write(batch->fs, batch->handle, image->bytes, sizeof(image->bytes),
                                      cg_keys_file_offset(image->number));
  }
  if (batch->write_status == 0)
    batch->sync_status = cg_io_sync(batch->fs, batch->handle);
}

/* Puts the images of a batch before those that wait. */
static void put_back(struct cg_keys *keys, struct images *images) {
  reserve_images(images, images->count + keys->pending.count);
  if (keys->pending.count > 0)
    memcpy(images->list + images->count, keys->pending.list,
           keys->pending.count * sizeof(images->list[0]));
  images->count += keys->pending.count;
  wipe_images(&keys->pending);
  keys->pending = *images;
  *images = (struct images){.list = NULL};
}

enum cg_code cg_keys_batch_end(struct cg_keys *keys, struct cg_keys_batch *batch,
                               struct cg_err *err) {
  enum cg_code code = CG_OK;
  assert(keys->batch == batch);
  if (batch->sync_status < 0) {
    code = cg_err_set(&keys->failure, CG_EFAILED,
                      "%s: a sync failed (%s): no key is made or destroyed any more; restart the "
                      "program when the disk is well",
                      keys->file.path, strerror(-batch->sync_status));
    cg_keys_failed(keys, err);
  } else if (batch->write_status < 0) {
    code = cg_err_set(err, cg_err_from_errno(-batch->write_status), "write %s: %s", keys->file.path,
                      strerror(-batch->write_status));
    put_back(keys, &batch->images);
  } else {
    keys->durable += batch->images.count;
    for (uint32_t i = 0; i < batch->images.count; i++)
      if (batch->images.list[i].number > keys->file.count)
        keys->file.count = batch->images.list[i].number;
  }
  wipe_images(&batch->images);
  cg_free(batch);
  keys->batch = NULL;
  return code;
}
