/* manifest.h - the list of a backup's files, as text, written last and as a whole.
 *
 * File `manifest` in the directory of a backup; lines end in a line feed, numbers are decimal where
 * nothing else is said:
 *
 *   catga backup 1
 *   log <log id, 32 hexadecimal digits>
 *   run <number of the backup run that wrote it, from 1>
 *   time <Unix ms>
 *   end <position behind the last record>
 *   segments <how many lines follow>
 *   segment <number> <nonce, hexadecimal> <bytes> <CRC32C of the file, hexadecimal>
 *           <first position> <end position> <end chain, hexadecimal> <sealed: 1 or 0>
 *   check <CRC32C of all bytes before this line, hexadecimal>
 *
 * A segment's file is log/<its name>, or, as long as a killed run has not renamed it, the same with
 * ".backup-<run>" behind it.
 * Owns: the list. Thread: any. */
#ifndef CG_LOG_MANIFEST_H
#define CG_LOG_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

#define CG_MANIFEST_SEGMENTS_MAX ((uint64_t)10000000) /* More in a manifest is damage. */

/* One segment of a backup. */
struct cg_manifest_segment {
  uint32_t nonce;          /* Of its header. */
  uint32_t crc;            /* CRC32C of the whole file. */
  uint64_t size;           /* Bytes of the file. */
  uint64_t first_position; /* As its header says. */
  uint64_t end_position;   /* Behind its last record. */
  uint32_t end_chain;      /* What the next segment is chained to; sealed only. */
  bool is_sealed;          /* It was whole when it was copied: it changes only with its nonce. */
};

/* The list. All zero is empty. */
struct cg_manifest {
  uint8_t log_id[16];                   /* Of the log. */
  uint64_t run;                         /* Counts runs; 0: there was none. */
  int64_t time_ms;                      /* When the last run was. */
  uint64_t end_position;                /* Behind the last record. */
  struct cg_manifest_segment *segments; /* By number. */
  uint64_t segment_count;               /* How many. */
};

/* Reads the manifest of the backup in `directory`; free it with cg_manifest_deinit. CG_ENOTFOUND:
 * there is none; CG_ECORRUPT; CG_EIO. */
enum cg_code cg_manifest_read(struct cg_manifest *manifest, const struct cg_fs *fs,
                              const char *directory, struct cg_err *err);
/* Writes it in the place of the one before, durably: it is the one or the other. */
enum cg_code cg_manifest_write(const struct cg_manifest *manifest, const struct cg_fs *fs,
                               const char *directory, struct cg_err *err);
/* Adds a segment to the list. */
void cg_manifest_add(struct cg_manifest *manifest, const struct cg_manifest_segment *segment);
/* Frees the list. */
void cg_manifest_deinit(struct cg_manifest *manifest);

/* The path of a segment's file in the backup; `run` 0: its own name, else its temporary one. Free
 * with cg_free. */
char *cg_manifest_path(const char *directory, uint64_t number, uint64_t run);

#endif
