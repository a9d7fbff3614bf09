/* table_writer.h - writes the file of a table from streams that come sorted by name.
 *
 * How to use: fill in a header with what is known and every count; cg_table_writer_open; give it
 * the segments in order, then each stream followed by its entries; cg_table_writer_finish. An error
 * on the way is kept and returned by finish. Memory is bounded, however large the table is.
 * The file has a temporary name until it is whole and durable; one that a crash has left behind is
 * written over.
 * Owns: the file while it is written. Thread: any one. */
#ifndef CG_STORE_TABLE_WRITER_H
#define CG_STORE_TABLE_WRITER_H

#include <stdatomic.h>

#include "store/table.h"

#define CG_TABLE_TEMPORARY ".tmp"                /* Ends the name of any file under way, */
#define CG_TABLE_TEMPORARY_WORKER ".worker.tmp"  /* and those of the worker with more of it. */
#define CG_TABLE_SORT_COUNT_MAX (1u << 20)       /* Hashes sorted in memory at once, about. */
#define CG_TABLE_BUFFER_BYTES ((size_t)64 << 10) /* Of one section under way. */

/* A section that is written from its beginning to its end. */
struct cg_table_section {
  uint8_t *bytes;  /* CG_TABLE_BUFFER_BYTES; NULL: not used yet. */
  size_t size;     /* Of what waits in bytes. */
  uint64_t offset; /* In the file, of what waits. */
};

/* A table being written. */
struct cg_table_writer {
  const struct cg_table_place *place; /* Where it lies. */
  char *path;                         /* The name it gets. */
  char *temporary;                    /* The name it has. */
  int handle;                         /* Of the file; -1: not open. */
  struct cg_table_header header;      /* What will be written. */
  struct cg_table_layout layout;      /* Where what goes. */
  struct cg_table_section segments;   /* The sections, see table.h. */
  struct cg_table_section waypoints;  /* See table.h. */
  struct cg_table_section opened;     /* See table.h. */
  struct cg_table_section closed;     /* See table.h. */
  struct cg_table_section streams;    /* See table.h. */
  struct cg_table_section buckets;    /* See table.h. */
  struct cg_table_section hashes;     /* See table.h. */
  struct cg_table_section units;      /* See table.h. */
  struct cg_table_section names;      /* See table.h. */
  uint64_t waypoint_count;            /* Given so far. */
  uint64_t unit_count;                /* Given so far. */
  uint64_t name_bytes;                /* Given so far. */
  uint32_t stream_count;              /* Given so far. */
  bool is_sparse;                     /* The stream under way has pairs of units. */
  uint64_t hash_seed;                 /* Of the hashes. */
  uint32_t sort_count_max;            /* CG_TABLE_SORT_COUNT_MAX. */
  struct cg_err failure;              /* The first error; its code is CG_OK: none. */
};

/* Begins a table in the place's directory, which must be there. Of the header log_id, all counts,
 * name_bytes, positions, first_segment and last_id must be set. On an error nothing is open. Keeps
 * the place until the end. */
enum cg_code cg_table_writer_open(struct cg_table_writer *writer,
                                  const struct cg_table_place *place,
                                  const struct cg_table_header *header, struct cg_err *err);
/* Adds a segment and its waypoints; first_waypoint is set here. */
void cg_table_writer_segment(struct cg_table_writer *writer, const struct cg_table_segment *segment,
                             const struct cg_log_waypoint *waypoints);
/* Adds a stream: its versions, count, state and flags. Sets the rest. */
void cg_table_writer_stream(struct cg_table_writer *writer, const struct cg_table_stream *stream,
                            const char *name, size_t name_size);
/* Adds the next entry of the stream added last. */
void cg_table_writer_entry(struct cg_table_writer *writer, const struct cg_table_entry *entry);
/* Makes the file whole and durable and gives it its name, or removes it. */
enum cg_code cg_table_writer_finish(struct cg_table_writer *writer, struct cg_err *err);
/* Removes the file. */
void cg_table_writer_abandon(struct cg_table_writer *writer);

#endif
