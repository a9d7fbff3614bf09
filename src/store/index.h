/* index.h - the index of sealed segments: the tables that together cover the segments from the
 * first on, none twice.
 *
 * How to use: cg_index_init; cg_index_resume while the log is opened, cg_index_join when it is
 * open; find streams and entries; cg_index_add a table that has been made (see worker.h);
 * cg_index_deinit after the log is closed, which has pointers into tables.
 * A table that is met damaged is built again at once, from its segments; only when that fails too,
 * CG_ECORRUPT or what else went wrong is returned, but not CG_ENOTFOUND.
 * Owns: the tables, and the files in the directory `index`. Thread: the loop thread. */
#ifndef CG_STORE_INDEX_H
#define CG_STORE_INDEX_H

#include "store/slots.h"
#include "store/table.h"
#include "store/table_build.h"

/* The index. */
struct cg_index {
  struct cg_table_place place; /* Where tables lie; its strings are owned. */
  struct cg_clock clock;       /* For telling progress once a second. */
  struct cg_say *say;          /* Where to; NULL: silent. */
  struct cg_log *log;          /* NULL until joined. */
  struct cg_table **tables;    /* By segments. */
  uint32_t table_count;        /* How many. */
  uint32_t table_capacity;     /* Room. */
  uint32_t serial;             /* Of the newest table, counted up. */
  uint64_t hash_seed;          /* Of names in tables. */
  uint32_t replayed_max;       /* Newest segments without a table that an open does not wait for. */
};

/* Makes it empty, for the data directory `path`; the log lies in its folder `log`. */
void cg_index_init(struct cg_index *index, const char *path, const struct cg_fs *fs,
                   struct cg_clock clock, struct cg_say *say);
/* Frees everything in it. */
void cg_index_deinit(struct cg_index *index);

/* A cg_log_resume_fn's work: takes the tables that are there and valid, builds those that are
 * missing, removes all other files. *covered gets how many segments have tables now: up to
 * replayed_max of the newest, and what cannot be built (which is told), are left to the replay of
 * the log. CG_ECORRUPT: a table proves that segments are missing. */
enum cg_code cg_index_resume(struct cg_index *index, const uint8_t log_id[16],
                             const struct cg_log_seal *seals, uint32_t count, uint32_t *covered,
                             struct cg_err *err);
/* The log is open: gives it the waypoints of all tables. */
void cg_index_join(struct cg_index *index, struct cg_log *log);

/* How many segments are covered. */
uint64_t cg_index_segment_count(const struct cg_index *index);
/* Records below it are in tables. */
uint64_t cg_index_end_position(const struct cg_index *index);
/* Highest id of a record in the tables. */
uint64_t cg_index_last_id(const struct cg_index *index);

/* Finds how many versions the stream has had, as the newest table that knows it says.
 * CG_ENOTFOUND: none does. */
enum cg_code cg_index_find(struct cg_index *index, const char *name, size_t size, uint64_t *count,
                           struct cg_err *err);
/* The entry of a version below slot->base; remembers in the slot where it was. CG_ENOTFOUND: that
 * record was scavenged. */
enum cg_code cg_index_entry(struct cg_index *index, struct cg_slot *slot, uint64_t version,
                            struct cg_entry *entry, struct cg_err *err);
/* The lowest version from `version` on, or the highest up to it, whose record is there.
 * CG_ENOTFOUND: there is none. */
enum cg_code cg_index_seek(struct cg_index *index, const struct cg_slot *slot, uint64_t version,
                           bool is_backward, uint64_t *found, struct cg_err *err);
/* Calls `each` for every stream that a table found opened, or closed when it was there before, in
 * the order of tables: the last word on a stream counts. */
typedef void (*cg_index_state_fn)(void *arg, const char *name, size_t size, bool is_opened);
enum cg_code cg_index_states(struct cg_index *index, cg_index_state_fn each, void *arg,
                             struct cg_err *err);
/* Calls `each`, until it says no, for the streams whose names begin with `prefix` and are above
 * `after`, in the order of names. */
typedef bool (*cg_index_name_fn)(void *arg, const char *name, size_t size);
enum cg_code cg_index_names(struct cg_index *index, const char *prefix, size_t prefix_size,
                            const char *after, size_t after_size, cg_index_name_fn each, void *arg,
                            struct cg_err *err);

/* Four tables next to each other of about the same size, which should be merged; *first gets the
 * index of the first. The lowest such. */
bool cg_index_wants_merge(const struct cg_index *index, uint32_t *first);
/* Takes a new table of these segments in place of those that it covers, or behind the last, and
 * removes their files. CG_ECONFLICT: it does not fit what is there. */
enum cg_code cg_index_add(struct cg_index *index, uint64_t first_segment, uint64_t last_segment,
                          struct cg_err *err);
/* The table that has a segment, or NULL. */
const struct cg_table *cg_index_table_of(const struct cg_index *index, uint64_t segment);
/* A segment was written anew, and a table of the segments `first` to `last` that fits the new file:
 * puts both in place, here and in the log. On an error nothing has changed but files. CG_EBUSY: the
 * index or a file of it was changed meanwhile; rewriting can be tried again. No record of the
 * segment may be in slots. */
enum cg_code cg_index_swap(struct cg_index *index, const struct cg_log_seal *seal, uint64_t first,
                           uint64_t last, struct cg_err *err);
/* Builds a table again from its segments, after the error `err`: it is damaged, or its file gone or
 * another one. CG_EBUSY: again somebody removed files meanwhile. Damage that comes back is not
 * mended but returned. */
enum cg_code cg_index_rebuild(struct cg_index *index, uint64_t first_segment, struct cg_err *err);

#endif
