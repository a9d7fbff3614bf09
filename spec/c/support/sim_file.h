/* sim_file.h - one file of a simulated file system: as programs see it, and as it is on the disk.
 *
 * How to use: by sim_fs.c only. A write is seen at once and reaches the disk by sync; settle brings
 * the disk to what a power loss may leave of the writes since; forget lets programs see the disk.
 * Owns: the bytes. Thread: one. */
#ifndef SPEC_SIM_FILE_H
#define SPEC_SIM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_SECTOR_BYTES 512

/* A sector as it was after one write. */
struct sim_version {
  uint64_t sector;                 /* Index in the file. */
  uint8_t bytes[SIM_SECTOR_BYTES]; /* Content. */
};

/* A file. */
struct sim_file {
  uint8_t *seen;                /* What programs see. */
  uint8_t *disk;                /* What is durable. */
  size_t seen_size;             /* Size that programs see. */
  size_t disk_size;             /* Size that is durable. */
  size_t capacity;              /* Bytes allocated for each of the two, zero beyond their size. */
  uint64_t reserved_bytes;      /* By allocate. */
  struct sim_version *versions; /* Not synced, in order of writing. */
  bool *is_noted;               /* By sector: it has a version. */
  size_t version_count;         /* How many. */
  size_t version_capacity;      /* Room. */
  int lock;                     /* Handle that holds the lock; -1: none. */
};

/* Makes both sets of bytes large enough, with a whole sector to spare. */
void sim_file_make_room(struct sim_file *file, size_t size);
/* Writes for programs; grows the file. */
void sim_file_write(struct sim_file *file, const void *bytes, size_t size, uint64_t offset);
/* Changes the size for programs. */
void sim_file_truncate(struct sim_file *file, uint64_t size);
/* Brings what programs see to the disk. */
void sim_file_sync(struct sim_file *file);
/* Brings to the disk what a power loss may leave, by chance. */
void sim_file_settle(struct sim_file *file, uint64_t *random);
/* Lets programs see what is on the disk. */
void sim_file_forget(struct sim_file *file);
/* Frees the bytes. */
void sim_file_deinit(struct sim_file *file);

/* The next number below `bound` of the sequence that *random is the state of. */
uint64_t sim_file_random(uint64_t *random, uint64_t bound);

#endif
