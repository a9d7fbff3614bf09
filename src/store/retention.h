/* retention.h - which records of a stream are kept when a segment is scavenged.
 *
 * What is kept of each stream is decided elsewhere (lua/catga/events/policy.lua), from metadata and
 * settings; here is only what that means for one record. Reads hide what is not kept by the same
 * bounds.
 * Owns: nothing. Thread: any. */
#ifndef CG_STORE_RETENTION_H
#define CG_STORE_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

#define CG_RETENTION_NO_VERSION UINT64_MAX

/* What is kept of one stream. Zero fields but for kept_version keep everything. */
struct cg_retention {
  uint64_t first_version; /* Records of lower versions go; */
  int64_t since_ms;       /* older ones go as well. */
  uint64_t kept_version;  /* This one stays all the same: the last, so that versions go on;
                             CG_RETENTION_NO_VERSION: none. */
  bool keeps_first;       /* Version 0 stays too: what a process was started with. */
};

/* Does a record of the stream stay? */
static inline bool cg_retention_keeps(const struct cg_retention *retention, uint64_t version,
                                      int64_t time_ms) {
  if (version == retention->kept_version || (version == 0 && retention->keeps_first))
    return true;
  return version >= retention->first_version && time_ms >= retention->since_ms;
}

#endif
