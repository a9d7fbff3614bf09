/* record.h - the bytes of segment header, commit, record and mark: encode, decode, check. Pure.
 *
 * All integers are little-endian. Everything starts at a multiple of 8. These bytes are final:
 * what format version 1 has stays readable for ever, version 2 only uses what was zero.
 *
 * Segment header, the first CG_SEGMENT_HEADER_BYTES (4,096) of a segment file; unused bytes are 0:
 *
 *   off size field
 *     0    8 magic "CATGASEG"
 *     8    4 format version: 1 as the writer makes it, 2 rewritten
 *    12    4 header bytes, 4,096
 *    16   16 log id (random; the same in all segments of a log)
 *    32    8 segment number (0, 1, 2, ...)
 *    40    8 first position: the position the segment's first record has, or will have
 *    48    4 nonce (random, salts every CRC in the segment)
 *    52    4 chain: check of the last commit of the segment before (0 in segment 0)
 *    56    8 creation time, Unix ms
 *    64    8 segment bytes: capacity of the file
 *    72    4 version 2: 1 when the rest of the file is compressed (see blocks.h), else 0
 *    76    4 version 2: end chain, what the next segment's chain must be: check of the last commit
 *              before it was rewritten. The commits of the file are chained by their own checks.
 *    80    8 version 2: end position, the next segment's first position
 *    88    4 version 2, compressed: where the table of blocks stands, offset / 8
 *    92    4 CRC32C of bytes 0..91 (not salted)
 *
 * Commit: header, records, end mark; contiguous; never crosses a segment.
 *
 *     0    4 magic "CGC1"
 *     4    4 commit bytes: header, records and end mark; a multiple of 8
 *     8    8 first position
 *    16    4 record count; 0 makes it a mark
 *    20    4 chain: check of the commit before it (across segments; 0 for the very first)
 *    24    8 durable position: every record with a position below it was known to be durable
 *    32    8 time of the commit, Unix ms
 *    40    4 gap count: positions that holes stand for, less the holes; 0 without holes
 *    44    4 CRC32C of bytes 0..43, salted by the nonce
 *    48      records
 *   n-8    4 magic "CGE1"
 *   n-4    4 check: CRC32C, salted by the nonce, over the header's CRC and every record's CRC in
 *            order, 4 bytes each
 *
 * Record:
 *
 *     0    4 record bytes, padding included; a multiple of 8
 *     4    4 CRC32C of bytes 8..end, salted by the nonce
 *     8    8 version in its stream (0, 1, 2, ...)
 *    16    8 time, Unix ms
 *    24    8 id (Snowflake)
 *    32    2 flags (enum cg_record_flags)
 *    34    2 stream bytes
 *    36    2 type bytes
 *    38    2 zero
 *    40    4 metadata bytes
 *    44    4 data bytes
 *    48      stream, type, metadata, data; zero padding to a multiple of 8
 *
 * A salted CRC is cg_crc32c(nonce, bytes, size).
 * A record's position is its commit's first position plus its index in the commit. Positions start
 * at 1: "after 0" is the beginning.
 * A hole stands in a rewritten segment for a run of records that were dropped: a record with the
 * flag CG_RECORD_HOLE alone, 48 bytes, all else 0 but the version, which says how many positions it
 * stands for. The record count counts it once.
 * Owns: nothing. Thread: any. */
#ifndef CG_LOG_RECORD_H
#define CG_LOG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define CG_SEGMENT_HEADER_BYTES 4096
#define CG_COMMIT_HEADER_BYTES 48
#define CG_COMMIT_END_BYTES 8
#define CG_RECORD_HEADER_BYTES 48
#define CG_RECORD_STREAM_BYTES_MAX 1024
#define CG_RECORD_TYPE_BYTES_MAX 256
#define CG_COMMIT_BYTES_MAX (64u << 20) /* A commit over it is refused with CG_ELIMIT. */

/* What kind of record it is, and how its data is written. */
enum cg_record_flags {
  CG_RECORD_JOURNAL = 1 << 0,  /* Belongs to a process's journal. */
  CG_RECORD_OPENS = 1 << 1,    /* Makes its stream unfinished (ProcessStarted). */
  CG_RECORD_CLOSES = 1 << 2,   /* Makes its stream finished again (ProcessCompleted, ...). */
  CG_RECORD_INTERNAL = 1 << 3, /* Bookkeeping (outcomes); not shown by read_all unless asked. */
  CG_RECORD_PERSONAL = 1 << 4, /* Some fields of its data are encrypted with a subject's key. */
  CG_RECORD_HOLE = 1 << 5      /* Stands for scavenged records; its version is how many. */
};

/* One record, decoded; the pointers point into the bytes it was decoded from. */
struct cg_record {
  uint64_t position;       /* Global position; 0 when not known. */
  uint64_t version;        /* Version in its stream. */
  int64_t time_ms;         /* Unix ms. */
  uint64_t id;             /* Snowflake id. */
  const char *stream;      /* Not zero-terminated. */
  const char *type;        /* Not zero-terminated. */
  const uint8_t *metadata; /* NULL is fine when its size is 0. */
  const uint8_t *data;     /* The same. */
  uint32_t metadata_size;  /* Bytes of metadata. */
  uint32_t data_size;      /* Bytes of data. */
  uint16_t flags;          /* enum cg_record_flags. */
  uint16_t stream_size;    /* Bytes of stream. */
  uint16_t type_size;      /* Bytes of type. */
};

/* A segment header, decoded. */
struct cg_segment_header {
  uint8_t log_id[16];      /* The same in all segments of a log. */
  uint64_t number;         /* Of the segment, from 0. */
  uint64_t first_position; /* Of the first record it has or will have. */
  uint32_t nonce;          /* Salts every CRC in the segment. */
  uint32_t chain;          /* Check of the last commit of the segment before. */
  int64_t created_ms;      /* Unix ms. */
  uint64_t segment_bytes;  /* Capacity of the file. */
  bool is_rewritten;       /* Format version 2; the rest is 0 without. */
  bool is_compressed;      /* Its commits stand in blocks. */
  uint32_t end_chain;      /* Chain of the next segment. */
  uint64_t end_position;   /* First position of the next segment. */
  uint64_t table_offset;   /* Where the table of blocks stands; compressed only. */
};

/* A commit header, decoded. */
struct cg_commit_header {
  uint32_t size;             /* Bytes of the whole commit. */
  uint32_t record_count;     /* 0: a mark. */
  uint32_t gap_count;        /* Positions of holes less the holes. */
  uint32_t hole_count;       /* Holes among the records; known after cg_commit_check only. */
  uint64_t first_position;   /* Of its first record. */
  uint64_t durable_position; /* All below was known to be durable. */
  int64_t time_ms;           /* Unix ms. */
  uint32_t chain;            /* Check of the commit before. */
  uint32_t crc;              /* The header's own CRC. */
};

/* Position behind a commit. */
static inline uint64_t cg_commit_end_position(const struct cg_commit_header *header) {
  return header->first_position + header->record_count + header->gap_count;
}

/* How many positions a record stands for: 1, or those of a hole. */
static inline uint64_t cg_record_positions(const struct cg_record *record) {
  return record->flags & CG_RECORD_HOLE ? record->version : 1;
}

/* Padded bytes a record with these parts takes. */
static inline size_t cg_record_size(size_t stream_size, size_t type_size, size_t metadata_size,
                                    size_t data_size) {
  return (CG_RECORD_HEADER_BYTES + stream_size + type_size + metadata_size + data_size + 7) &
         ~(size_t)7;
}

/* Appends a record to `buf` with its CRC still 0 (the log fills it in when the segment, and so the
 * nonce, is known). The parts must be within their bounds (asserted). */
void cg_record_append(struct cg_buf *buf, const struct cg_record *record);

/* Two-step form for data that is produced in place: begin writes the header and stream, type and
 * metadata, and returns the offset of the record in buf; the caller appends data to buf; finish
 * fixes the sizes and pads. */
size_t cg_record_begin(struct cg_buf *buf, const struct cg_record *record);
void cg_record_finish(struct cg_buf *buf, size_t record_offset);

/* Decodes the record at `bytes` (at most `size` readable) without checking its CRC; its position
 * is left 0. *record_size gets the padded size. CG_ECORRUPT: sizes do not fit, or padding is
 * odd. */
enum cg_code cg_record_decode(const uint8_t *bytes, size_t size, struct cg_record *record,
                              size_t *record_size, struct cg_err *err);

/* Whether the sizes that the record at `bytes` (at most `size` readable) states agree; its padded
 * size is returned, or 0, also for a hole. Enough for bytes that this program has encoded. */
size_t cg_record_fit(const uint8_t *bytes, size_t size);

/* The CRC that belongs into a record of `record_size` bytes. */
uint32_t cg_record_crc(const uint8_t *bytes, size_t record_size, uint32_t nonce);
/* The CRC that stands in the record. */
uint32_t cg_record_stored_crc(const uint8_t *bytes);
/* The padded size that the record says it has; 0 when not even that can be read. Not checked. */
uint32_t cg_record_stated_size(const uint8_t *bytes, size_t size);

/* Writes CG_SEGMENT_HEADER_BYTES. */
void cg_segment_header_encode(const struct cg_segment_header *header,
                              uint8_t bytes[CG_SEGMENT_HEADER_BYTES]);
/* Reads and checks one. CG_ECORRUPT: magic, version, size or CRC is wrong (the message says
 * which). */
enum cg_code cg_segment_header_decode(const uint8_t *bytes, size_t size,
                                      struct cg_segment_header *header, struct cg_err *err);

/* Finishes a commit in place: `commit` holds header room, encoded records, and end mark room,
 * header->size bytes in all. Fills in every CRC, the header and the end mark; returns the check. */
uint32_t cg_commit_finish(uint8_t *commit, const struct cg_commit_header *header, uint32_t nonce);

/* Checks and decodes only the commit header at `bytes`. */
bool cg_commit_header_decode(const uint8_t *bytes, size_t size, uint32_t nonce,
                             struct cg_commit_header *header);

/* Checks a whole commit: header, every record, end mark. On success *check gets its check.
 * CG_ECORRUPT with what was wrong otherwise. */
enum cg_code cg_commit_check(const uint8_t *bytes, size_t size, uint32_t nonce,
                             struct cg_commit_header *header, uint32_t *check, struct cg_err *err);

#endif
