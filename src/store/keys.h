/* keys.h - the keys of the persons ("subjects") whose data in events is encrypted, in a file of
 * their own. Destroying a key makes everything that was sealed with it unreadable for good.
 *
 * How to use: cg_keys_open; cg_keys_find or cg_keys_make a subject's key; cg_keys_seal and
 * cg_keys_unseal with it; cg_keys_forget destroys it. A new key, and the end of one, are in memory
 * at once and durable later: whoever made them takes cg_keys_queued as a ticket and must not let
 * anything that was sealed become durable before cg_keys_durable has reached it. Writing: while
 * cg_keys_batch_begin gives a batch, cg_keys_batch_write it (on any thread), then
 * cg_keys_batch_end.
 * Owns: the file, the cache of keys, which is wiped when they leave it. Thread: the loop thread,
 * but for cg_keys_batch_write. */
#ifndef CG_STORE_KEYS_H
#define CG_STORE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"

#define CG_KEYS_SUBJECT_BYTES_MAX 128
#define CG_KEYS_MASTER_BYTES 32
#define CG_KEYS_DIGEST_BYTES 32
#define CG_KEYS_REF_CHARS 40         /* Room for the text of a ref, with its terminating zero. */
#define CG_KEYS_PENDING_MAX 10000u   /* Changes that wait for the disk; more is CG_ELIMIT. */
#define CG_KEYS_CACHED_MIN 16u       /* A smaller cached_max is taken as this. */
#define CG_KEYS_SEALED_BYTES_MORE 28 /* A sealed text is so much longer than the plain one. */

struct cg_keys;
struct cg_keys_batch;

/* Reads a master key: 32 bytes, or 64 hexadecimal digits with or without a line end. CG_EINVAL: the
 * file holds something else; CG_ENOTFOUND, CG_EPERM, CG_EIO. Wipe it when it was used. */
enum cg_code cg_keys_master_read(const char *path, uint8_t master[CG_KEYS_MASTER_BYTES],
                                 struct cg_err *err);

/* Names one key for ever: a number is given once in a file, and the tag tells files apart. */
struct cg_keys_ref {
  uint64_t number; /* From 1, in the order in which keys were made. */
  uint64_t tag;    /* Random. */
};

/* How to open the keys. */
struct cg_keys_options {
  const struct cg_fs *fs;    /* The files; kept. NULL: the system's. */
  const char *directory;     /* Where the file `keys` lies, must be there; NULL: in memory. */
  const uint8_t *master;     /* Key that wraps the others in the file, CG_KEYS_MASTER_BYTES; NULL:
                                    none. Copied. */
  const uint8_t *master_old; /* The one before: a file that it wraps is written anew. May be
                                    NULL. */
  uint32_t cached_max;       /* Keys kept in memory. */
};

/* What is told of a key. */
struct cg_keys_info {
  struct cg_keys_ref ref;                      /* Its name. */
  int64_t time_ms;                             /* When it was made, or destroyed. Unix ms. */
  bool is_forgotten;                           /* It was destroyed. */
  size_t subject_size;                         /* 0 when it is forgotten. */
  char subject[CG_KEYS_SUBJECT_BYTES_MAX + 1]; /* Zero-terminated. */
};

/* Opens or makes the file `keys` (mode 0600), reads all of it, and opens libcrypto. Errors:
 * CG_ENOTFOUND no libcrypto; CG_ECORRUPT the header is damaged; CG_EINVAL the master key is missing
 * or another; CG_EIO and the like. */
enum cg_code cg_keys_open(struct cg_keys **keys, const struct cg_keys_options *options,
                          struct cg_err *err);
/* Wipes and frees; what is pending is lost. No batch may be under way. NULL is fine. */
void cg_keys_close(struct cg_keys *keys);
/* Slots of the file that are damaged: data that was sealed with them cannot be read. */
uint64_t cg_keys_damaged_count(const struct cg_keys *keys);

/* The newest key of a subject. CG_ENOTFOUND: it has none; CG_EFORGOTTEN: it was destroyed, *ref
 * names it; CG_EINVAL: the subject is empty or too long; CG_EIO, CG_ECORRUPT. */
enum cg_code cg_keys_find(struct cg_keys *keys, const char *subject, size_t size,
                          struct cg_keys_ref *ref, struct cg_err *err);
/* Makes a key for a subject, unless it has one that lives. Errors: CG_ELIMIT too many wait for the
 * disk, CG_EFAILED an earlier sync failed; and those of cg_keys_find but the first two. */
enum cg_code cg_keys_make(struct cg_keys *keys, const char *subject, size_t size, int64_t now_ms,
                          struct cg_keys_ref *ref, struct cg_err *err);
/* Digest of a subject under this file's salt: names it without telling who it is. CG_EINVAL as
 * above; CG_EIO. */
enum cg_code cg_keys_digest(struct cg_keys *keys, const char *subject, size_t size,
                            uint8_t digest[CG_KEYS_DIGEST_BYTES], struct cg_err *err);
/* Destroys a key: at once in memory, and overwritten in the file by the next batch. One that is
 * destroyed already is left. With a digest the subject counts as forgotten from now on also when
 * its slot is damaged or missing; NULL: not known. CG_ENOTFOUND: there is no such key in this file
 * (the subject was remembered all the same); CG_ELIMIT, CG_EFAILED, CG_EIO as above. */
enum cg_code cg_keys_forget(struct cg_keys *keys, const struct cg_keys_ref *ref,
                            const uint8_t *digest, int64_t now_ms, struct cg_err *err);

/* Appends nonce, cipher text and tag of `plain` to `out`. `bound` must be the same when it is
 * unsealed. CG_EFORGOTTEN, CG_ENOTFOUND, CG_ECORRUPT, CG_EIO. */
enum cg_code cg_keys_seal(struct cg_keys *keys, const struct cg_keys_ref *ref, const void *bound,
                          size_t bound_size, const void *plain, size_t size, struct cg_buf *out,
                          struct cg_err *err);
/* Appends the plain text to `out`. CG_EFORGOTTEN: the key was destroyed; CG_ENOTFOUND: it is not in
 * this file; CG_ECORRUPT: sealed text or key is damaged, or belongs elsewhere; CG_EIO. */
enum cg_code cg_keys_unseal(struct cg_keys *keys, const struct cg_keys_ref *ref, const void *bound,
                            size_t bound_size, const void *sealed, size_t size, struct cg_buf *out,
                            struct cg_err *err);

/* The next key behind number *cursor, which moves on; looks at `look_max` places at most. CG_END:
 * that was all; CG_ENOTFOUND: none among these, call again. Damaged ones are left out. */
enum cg_code cg_keys_next(struct cg_keys *keys, uint64_t *cursor, uint32_t look_max,
                          struct cg_keys_info *info, struct cg_err *err);

/* Text of a ref, "17-0123456789abcdef". */
void cg_keys_ref_format(const struct cg_keys_ref *ref, char text[CG_KEYS_REF_CHARS]);
/* Reads one; false when it is none. */
bool cg_keys_ref_parse(const char *text, size_t size, struct cg_keys_ref *ref);

/* How many changes were made so far, and how many of them are durable. */
uint64_t cg_keys_queued(const struct cg_keys *keys);
uint64_t cg_keys_durable(const struct cg_keys *keys);
/* CG_OK, or why nothing can be written any more. */
enum cg_code cg_keys_failed(const struct cg_keys *keys, struct cg_err *err);
/* What is to be written, or NULL; one batch at a time. */
struct cg_keys_batch *cg_keys_batch_begin(struct cg_keys *keys);
/* Writes it and syncs once. The only function for another thread. */
void cg_keys_batch_write(struct cg_keys_batch *batch);
/* Takes the outcome over, wipes and frees the batch. Unless CG_OK its changes wait again, for the
 * next batch; after a failed sync there is none. */
enum cg_code cg_keys_batch_end(struct cg_keys *keys, struct cg_keys_batch *batch,
                               struct cg_err *err);

#endif
