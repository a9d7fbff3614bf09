/* table.h - one file of the index: where the records of a run of sealed segments lie.
 *
 * A table is derived from its segments and bound to them by the log's id and their nonces. It is
 * written once (table_writer.h) and memory-mapped to be read. It is in the byte order of the
 * machine: a table of another one has no valid header, and is built again like one that is missing.
 *
 * How to use: cg_table_open; find a stream by name, then its entries by version; cg_table_free.
 *
 * The file is a header (struct cg_table_header, in a page of its own), and sections, each beginning
 * at a multiple of 8 right behind the one before it; only the checks begin a page:
 *
 *   section   one item                                    how many
 *   segments  struct cg_table_segment                     header.segment_count
 *   waypoints struct cg_log_waypoint                      header.waypoint_count
 *   opened    u32 place of a stream that is unfinished    header.opened_count, by name
 *   closed    u32 place of a stream that was begun before header.closed_count, by name
 *             the table and is finished at its end
 *   streams   struct cg_table_stream                      header.stream_count, sorted by name
 *   buckets   u32 place of the first of the bucket's      2^header.bucket_bits + 1
 *             hashes; the last item is their count
 *   hashes    u64: hash of the name << 32 | place of its  header.stream_count, sorted; the upper
 *             stream                                      bucket_bits of a hash are its bucket
 *   units     struct cg_table_unit                        header.unit_count
 *   names     bytes, one name behind the other            header.name_bytes
 *   checks    u32: CRC32C of a page of CG_TABLE_PAGE_BYTES  one a page from the second on, up to
 *             salted by its number                        where the checks begin
 *
 * The units of a stream are its entries, by version: one unit each when its versions are without
 * gaps, else (CG_TABLE_SPARSE) two, the second of which is the version as u64.
 * The header has a CRC of itself and one of the checks; both are checked when the table is opened,
 * a page when it is touched first. So no flipped bit is ever believed: CG_ECORRUPT.
 *
 * Owns: the mapping. Thread: one at a time; each may open the file for itself. */
#ifndef CG_STORE_TABLE_H
#define CG_STORE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "log/log.h"

#define CG_TABLE_MAGIC UINT64_C(0x58444941474154C7)
#define CG_TABLE_VERSION 1u
#define CG_TABLE_PAGE_BYTES 4096u
#define CG_TABLE_NAME_BYTES 48 /* Room for the name of a table's file. */
#define CG_TABLE_SEGMENTS_MAX (1u << 24)

/* The beginning of the file. The rest of its page is zero. */
struct cg_table_header {
  uint64_t magic;          /* CG_TABLE_MAGIC, and so the byte order. */
  uint32_t version;        /* CG_TABLE_VERSION. */
  uint32_t segment_count;  /* Segments covered, 1 or more. */
  uint8_t log_id[16];      /* Of the log. */
  uint64_t file_bytes;     /* Of the whole table. */
  uint64_t first_segment;  /* Number of the first segment. */
  uint64_t first_position; /* Of the first record. */
  uint64_t end_position;   /* Behind the last record. */
  uint64_t last_id;        /* Highest id of a record; 0: there is none. */
  uint64_t unit_count;     /* Items of the section units. */
  uint64_t name_bytes;     /* Bytes of the section names. */
  uint64_t waypoint_count; /* Items of the section waypoints. */
  uint32_t stream_count;   /* Items of the sections streams and hashes. */
  uint32_t opened_count;   /* Items of the section opened. */
  uint32_t closed_count;   /* Items of the section closed. */
  uint32_t bucket_bits;    /* 0..31. */
  uint32_t checks_crc;     /* CRC32C of the section checks. */
  uint32_t crc;            /* CRC32C of the bytes before it. Last. */
};

/* One segment that the table covers. */
struct cg_table_segment {
  uint64_t number;         /* Of the segment. */
  uint64_t first_position; /* Of its first record. */
  uint64_t end_position;   /* Behind its last record. */
  int64_t first_time_ms;   /* Of the first record that is there; 0: none is. */
  int64_t last_time_ms;    /* Of the last. */
  uint32_t nonce;          /* Of the file that was read. */
  uint32_t chain;          /* That it ended with. */
  uint64_t first_waypoint; /* Place of its first waypoint. */
  uint64_t waypoint_count; /* How many there are. */
};

/* What happened to a stream in the table's segments. */
enum cg_table_state {
  CG_TABLE_UNCHANGED, /* Neither opened nor closed. */
  CG_TABLE_OPENED,    /* Unfinished at the end. */
  CG_TABLE_CLOSED     /* Finished at the end. */
};

/* Flags of a stream. */
#define CG_TABLE_SPARSE 1u /* Its units are in pairs. */

/* One stream. */
struct cg_table_stream {
  uint64_t first_version; /* Of its first entry; last_version + 1 when there is none. */
  uint64_t last_version;  /* Highest it has reached, also when that record was scavenged. */
  uint64_t first_unit;    /* Place of its first unit. */
  uint64_t name_offset;   /* Of its name in the section names. */
  uint32_t entry_count;   /* Entries. */
  uint32_t hash;          /* Of its name. */
  uint16_t name_size;     /* Bytes of the name. */
  uint8_t state;          /* enum cg_table_state. */
  uint8_t flags;          /* CG_TABLE_SPARSE. */
  uint32_t zero;          /* Unused. */
};

/* One entry: a record's place. */
struct cg_table_unit {
  uint32_t offset;   /* Of the record in its segment, / 8. */
  uint32_t distance; /* Its position, from the table's first. */
};

/* Where the sections lie in the file. */
struct cg_table_layout {
  uint64_t segments;    /* Offset of the section, as the others. */
  uint64_t waypoints;   /* See above. */
  uint64_t opened;      /* See above. */
  uint64_t closed;      /* See above. */
  uint64_t streams;     /* See above. */
  uint64_t buckets;     /* See above. */
  uint64_t hashes;      /* See above. */
  uint64_t units;       /* See above. */
  uint64_t names;       /* See above. */
  uint64_t checks;      /* See above; a multiple of the page. */
  uint64_t check_count; /* Items of the section checks. */
  uint64_t end;         /* Bytes of the file. */
};

/* An open table. */
struct cg_table {
  const struct cg_fs *fs;                  /* How the file is reached. */
  const uint8_t *bytes;                    /* The file. */
  uint64_t *checked;                       /* One bit a page whose CRC was right. */
  struct cg_table_header header;           /* A copy. */
  struct cg_table_layout layout;           /* Where what lies. */
  const struct cg_table_segment *segments; /* Checked. */
  uint64_t hash_seed;                      /* Of the hashes. */
  uint32_t serial;                         /* Its user's number for it. */
  bool is_mended;                          /* Its user's: made in place of a damaged one. */
};

/* Where tables come from and go to. */
struct cg_table_place {
  const struct cg_fs *fs;          /* How files are reached. */
  const char *log_path;            /* Directory of the log. */
  const char *directory;           /* Of the tables. */
  uint8_t log_id[16];              /* Of the log. */
  const char *temporary;           /* Ends the name of a file under way; one a thread. */
  const atomic_bool *is_cancelled; /* Ends the work with CG_ECANCELLED; NULL: never. */
};

/* Opens a table. CG_ENOTFOUND: no such file; CG_ECORRUPT: it is none, or damaged; CG_EIO. */
enum cg_code cg_table_open(struct cg_table **table, const struct cg_fs *fs, const char *path,
                           struct cg_err *err);
/* Frees it; NULL is fine. */
void cg_table_free(struct cg_table *table);
/* CG_OK when the table is of this log and of the segments as these seals, the first of which is
 * that of the table's first segment, show them; CG_ECONFLICT says what is different. */
enum cg_code cg_table_match(const struct cg_table *table, const uint8_t log_id[16],
                            const struct cg_log_seal *seals, struct cg_err *err);
/* Number of the last segment. */
uint64_t cg_table_last_segment(const struct cg_table *table);

/* The functions below return CG_ECORRUPT when a page that they touch is damaged or makes no
 * sense. */

/* Finds a stream by name; `hash` is cg_table_hash's. CG_ENOTFOUND: it is not in the table. */
enum cg_code cg_table_find(struct cg_table *table, uint32_t hash, const char *name, size_t size,
                           uint32_t *place, struct cg_err *err);
/* The place of the first stream whose name is not below `name`; stream_count when there is none. */
enum cg_code cg_table_seek(struct cg_table *table, const char *name, size_t size, uint32_t *place,
                           struct cg_err *err);
/* Reads a stream; its name points into the table. */
enum cg_code cg_table_stream(struct cg_table *table, uint32_t place, struct cg_table_stream *stream,
                             const char **name, struct cg_err *err);
/* One entry, decoded. */
struct cg_table_entry {
  uint64_t version;   /* Of the record in its stream. */
  uint64_t position;  /* Of the record. */
  cg_log_place place; /* Of the record. */
};
/* Reads the index-th entry of a stream. */
enum cg_code cg_table_entry(struct cg_table *table, const struct cg_table_stream *stream,
                            uint32_t index, struct cg_table_entry *entry, struct cg_err *err);
/* The index of a stream's first entry whose version is not below `version`; entry_count when there
 * is none. */
enum cg_code cg_table_seek_version(struct cg_table *table, const struct cg_table_stream *stream,
                                   uint64_t version, uint32_t *index, struct cg_err *err);
/* The lists of streams opened or closed; the pointer points into the table. */
enum cg_code cg_table_opened(struct cg_table *table, const uint32_t **places, struct cg_err *err);
enum cg_code cg_table_closed(struct cg_table *table, const uint32_t **places, struct cg_err *err);
/* The waypoints of a segment; the pointer points into the table. */
enum cg_code cg_table_waypoints(struct cg_table *table, const struct cg_table_segment *segment,
                                const struct cg_log_waypoint **waypoints, struct cg_err *err);

/* Whether a stream belongs into the list `closed`. */
static inline bool cg_table_was_before(const struct cg_table_stream *stream) {
  return stream->state == CG_TABLE_CLOSED && stream->first_version > 0;
}

/* Counts the units of a stream in a header, and the stream in its lists. */
static inline void cg_table_count(struct cg_table_header *header,
                                  const struct cg_table_stream *stream) {
  header->unit_count += (uint64_t)stream->entry_count * (stream->flags & CG_TABLE_SPARSE ? 2 : 1);
  header->opened_count += stream->state == CG_TABLE_OPENED;
  header->closed_count += cg_table_was_before(stream);
}

/* The hash of a name in tables of a log. */
uint64_t cg_table_seed(const uint8_t log_id[16]);
uint32_t cg_table_hash(uint64_t seed, const char *name, size_t size);
/* Where the sections of a table with this header lie; false when the numbers make no sense. */
bool cg_table_lay_out(const struct cg_table_header *header, struct cg_table_layout *layout);
/* The CRC of a page. */
uint32_t cg_table_page_crc(uint64_t page, const uint8_t *bytes);
/* Which of two names is first, as memcmp. */
int cg_table_compare(const char *a, size_t a_size, const char *b, size_t b_size);
/* Writes "table-0000000000-0000000003.idx". */
void cg_table_name(char name[CG_TABLE_NAME_BYTES], uint64_t first_segment, uint64_t last_segment);
/* "<directory>/<name of the table><ending>"; free with cg_free. */
char *cg_table_path(const char *directory, uint64_t first_segment, uint64_t last_segment,
                    const char *ending);

#endif
