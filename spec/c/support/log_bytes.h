/* log_bytes.h - bytes of segments for fuzz targets: a small log to put them into, and making their
 * checksums right, so that what lies behind the checksums is reached too.
 *
 * Owns: nothing. Thread: any. */
#ifndef SPEC_LOG_BYTES_H
#define SPEC_LOG_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "log/log.h"
#include "support/sim_fs.h"

#define LOG_BYTES_SEGMENTS 3 /* Of the small log; the last one is not sealed. */

/* Makes every CRC of a segment's bytes right that can be reached, of commits or of blocks. */
void log_bytes_repair(uint8_t *bytes, size_t size);
/* Appends to `out` the segment `bytes`, the commits of which are not compressed, with its commits
 * in blocks, whatever they are. False: it is too short. */
bool log_bytes_pack(const uint8_t *bytes, size_t size, struct cg_buf *out);

/* How the small log is opened on a disk; `clock` must live as long as the log. */
struct cg_log_options log_bytes_options(struct sim_fs *sim, struct cg_clock_virtual *clock);
/* Makes the small log in /log, always the same bytes, and closes it: in each segment a few small
 * records and a large one, which compresses well. */
void log_bytes_make(struct sim_fs *sim);
/* Whether a record is one of the small ones: a `keep` of cg_log_rewrite. */
bool log_bytes_is_small(void *arg, const struct cg_record *record);
/* Path of a segment of the small log. */
void log_bytes_path(uint64_t number, char path[64]);

/* What was read from a log. */
struct log_bytes_sum {
  uint64_t count; /* Records. */
  uint32_t crc;   /* Of all their bytes and positions. */
};
/* Adds a record to `arg`, a sum; a cg_log_replay_fn. Reads all of it, so that a pointer to the
 * outside is noticed. */
void log_bytes_see(void *arg, const struct cg_record *record, cg_log_place place);
/* Reads all by cursor up to the end or the first error, which is returned; CG_OK: to the end. */
enum cg_code log_bytes_read(struct cg_log *log, struct log_bytes_sum *sum);

#endif
