/* store_state.h - what the files of the event store share: the store itself.
 *
 * Owns: see store.h. Thread: the loop thread. */
#ifndef CG_STORE_STORE_STATE_H
#define CG_STORE_STORE_STATE_H

#include "store/index.h"
#include "store/reserve.h"
#include "store/slots.h"
#include "store/store.h"
#include "store/worker.h"

/* One record of the commit being built. */
struct cg_store_staged {
  uint32_t slot;     /* Place of the stream. */
  uint32_t entry;    /* Place of its entry in the slot. */
  uint32_t distance; /* Bytes from the commit's first record. */
  uint16_t flags;    /* Of the record. */
};

/* The store. */
struct cg_store {
  struct cg_log *log;             /* Owned. */
  struct cg_slots slots;          /* The streams in memory. */
  uint64_t last_id;               /* Highest id seen while opening. */
  struct cg_id_source ids;        /* Makes ids. */
  struct cg_reserve reserve;      /* Where ids are reserved; unused in memory. */
  struct cg_buf *building;        /* Encoded records of the commit being built. */
  struct cg_store_staged *staged; /* The same, for the index. */
  uint32_t staged_count;          /* How many. */
  uint32_t staged_capacity;       /* Room in staged. */
  size_t open_record;             /* Offset of the record between add and added. */
  bool is_building;               /* Between begin and commit or rollback. */
  bool is_record_open;            /* Between add and added. */
  bool has_index;                 /* The log has segments in files; else the rest is unused. */
  struct cg_index index;          /* Of sealed segments. */
  struct cg_worker worker;        /* Makes its tables. */
  struct cg_clock clock;          /* Says when to try again. */
  struct cg_say *say;             /* Where failures of the index are told; NULL: silent. */
  uint32_t streams_cached_max;    /* Streams in memory above which some are evicted. */
  uint32_t settled_serial;        /* Serial of the index when there was nothing to be merged. */
  uint32_t retry_seals;           /* After a failure: not before there are more sealed segments */
  uint64_t retry_ns;              /* than these, or it is this time; 0: at once. */
  struct cg_err replay_fault;     /* What was wrong with the records replayed. */
  bool is_rewriting;              /* The worker rewrites a segment, or has. */
  bool is_rewritten;              /* It has, and nobody has asked yet what came of it. */
  enum cg_code rewrite_code;      /* What came of it. */
  struct cg_err rewrite_err;      /* Why not, when the code is not CG_OK. */
};

/* Applies the flags of a record to its stream. */
static inline void cg_store_apply_flags(struct cg_slot *slot, uint16_t flags) {
  if (flags & CG_RECORD_OPENS)
    slot->unfinished = true;
  if (flags & CG_RECORD_CLOSES)
    slot->unfinished = false;
}

#endif
