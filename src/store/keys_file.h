/* keys_file.h - the file of keys: its bytes, opening, and wrapping by a master key. Private to
 * keys.c.
 *
 * All integers are little-endian.
 *
 * Header, the first 4,096 bytes; unused bytes are 0:
 *
 *   off size field
 *     0    8 magic "CATGAKEY"
 *     8    4 format version, 1
 *    12    4 bytes of a slot, 256
 *    16   16 salt of the digests (random)
 *    32    4 1: a master key wraps the keys
 *    36   12 nonce of the proof
 *    48   32 proof: 32 zero bytes, encrypted with the master key
 *    80   16 tag of the proof
 *    96    4 CRC32C of bytes 0..95
 *
 * Slot of key n, at 4,096 + 256 * (n - 1). All zero: never used.
 *
 *     0    4 CRC32C of bytes 4..255
 *     4    2 state: 1 lives, 2 forgotten
 *     6    2 bytes of the subject, 0 when forgotten
 *     8    8 n
 *    16    8 tag (random)
 *    24    8 time at which it was made or destroyed, Unix ms
 *    32   32 digest: SHA-256 of salt and subject
 *    64   12 nonce of the wrapping, or 0
 *    76   32 key, wrapped by the master key if there is one; 0 when forgotten
 *   108   16 tag of the wrapping, or 0; bytes 4..63 of the slot are bound to it
 *   124    4 zero
 *   128  128 subject, 0 when forgotten
 *
 * Owns: see struct cg_keys_file. Thread: the loop thread. */
#ifndef CG_STORE_KEYS_FILE_H
#define CG_STORE_KEYS_FILE_H

#include "store/cipher.h"
#include "store/keys.h"

#define CG_KEYS_HEADER_BYTES 4096
#define CG_KEYS_SLOT_BYTES 256
#define CG_KEYS_SALT_BYTES 16
#define CG_KEYS_PATH_BYTES 4096

/* What a key is. */
enum cg_key_state { CG_KEY_NONE = 0, CG_KEY_LIVES = 1, CG_KEY_FORGOTTEN = 2 };

/* One slot, decoded. */
struct cg_key_slot {
  enum cg_key_state state;                 /* CG_KEY_NONE: never used. */
  struct cg_keys_ref ref;                  /* Number and tag. */
  int64_t time_ms;                         /* When it was made or destroyed. */
  uint8_t digest[CG_CIPHER_DIGEST_BYTES];  /* Of salt and subject. */
  uint8_t secret[CG_CIPHER_KEY_BYTES];     /* The key; zeros when forgotten. */
  size_t subject_size;                     /* Bytes of the subject. */
  char subject[CG_KEYS_SUBJECT_BYTES_MAX]; /* Not zero-terminated. */
};

/* The open file. */
struct cg_keys_file {
  const struct cg_fs *fs;               /* The files. */
  struct cg_cipher *cipher;             /* The caller's. */
  char path[CG_KEYS_PATH_BYTES];        /* Of the file. */
  int handle;                           /* -1: in memory. */
  uint64_t count;                       /* Slots in the file, those never used included. */
  bool is_wrapped;                      /* A master key wraps the keys. */
  uint8_t master[CG_KEYS_MASTER_BYTES]; /* It; zeros when there is none. */
  uint8_t salt[CG_KEYS_SALT_BYTES];     /* Of the digests. */
};

/* Opens or makes the file; with another master key than before it is written anew. Errors: see
 * cg_keys_open. */
enum cg_code cg_keys_file_open(struct cg_keys_file *file, const struct cg_keys_options *options,
                               struct cg_cipher *cipher, struct cg_err *err);
/* Closes and wipes. */
void cg_keys_file_close(struct cg_keys_file *file);

/* Reads slot `number`. A slot never used, or behind the end: CG_OK and state CG_KEY_NONE.
 * CG_ECORRUPT: its bytes are damaged; CG_EIO. */
enum cg_code cg_keys_file_read(struct cg_keys_file *file, uint64_t number, struct cg_key_slot *slot,
                               struct cg_err *err);
/* Called for each slot in order: its state, CG_ECORRUPT in `code` for a damaged one. */
typedef void (*cg_keys_file_slot_fn)(void *arg, uint64_t number, enum cg_code code,
                                     const struct cg_key_slot *slot);
/* Reads all slots. CG_EIO. */
enum cg_code cg_keys_file_scan(struct cg_keys_file *file, cg_keys_file_slot_fn each, void *arg,
                               struct cg_err *err);
/* Makes the bytes of a slot. CG_EIO: libcrypto failed. */
enum cg_code cg_keys_file_encode(struct cg_keys_file *file, const struct cg_key_slot *slot,
                                 uint8_t bytes[CG_KEYS_SLOT_BYTES], struct cg_err *err);
/* Where slot `number` lies. */
uint64_t cg_keys_file_offset(uint64_t number);

#endif
