/* zone.h - time zones: which offset from UTC holds at a moment, and from when until when.
 *
 * How to use: cg_zone_load a zone of the system's zoneinfo by name, ask cg_zone_span, cg_zone_free
 * it. The files are TZif (RFC 8536), versions 1 to 4; times beyond a file's table follow the rule
 * at its end. libc's own way, the environment variable TZ, is one for the whole program.
 * Owns: a zone owns its table. Thread: any; a zone never changes, so several may ask it. */
#ifndef CG_BASE_ZONE_H
#define CG_BASE_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

/* Bounds: of a zone's name, and of its file (the largest of the system has 4 KiB). */
#define CG_ZONE_NAME_BYTES_MAX 64
#define CG_ZONE_FILE_BYTES_MAX (256u << 10)

/* Seconds since 1970 that spans are known for: the years 1 to 9999. */
#define CG_ZONE_TIME_MIN INT64_C(-62135596800)
#define CG_ZONE_TIME_MAX INT64_C(253402300799)

/* A zone. */
struct cg_zone;

/* A stretch of time with one offset. Its neighbours may have the same one. */
struct cg_zone_span {
  int64_t begin;  /* Its first second since 1970; CG_ZONE_TIME_MIN: there is none before. */
  int64_t end;    /* The second after its last; CG_ZONE_TIME_MAX + 1: there is none after. */
  int32_t offset; /* Seconds that local time is ahead of UTC. */
  int32_t before; /* The same in the second before `begin`. */
};

/* Is it the form of a zone's name: "Europe/Berlin"? Never a path that leads out of a directory. */
bool cg_zone_is_name(const char *name, size_t size);
/* Reads the zone `name` from `directory`; free it with cg_zone_free. CG_EINVAL: this cannot be a
 * name; CG_ENOTFOUND: there is no such zone; CG_ECORRUPT: the file is no TZif; CG_EIO. */
enum cg_code cg_zone_load(struct cg_zone **zone, const struct cg_fs *fs, const char *directory,
                          const char *name, struct cg_err *err);
/* The same out of the bytes of a file, which may be anything. */
enum cg_code cg_zone_parse(struct cg_zone **zone, const uint8_t *bytes, size_t size,
                           struct cg_err *err);
/* The span that holds `time`; one outside of the years 1 to 9999 counts as the nearest in them. */
void cg_zone_span(const struct cg_zone *zone, int64_t time, struct cg_zone_span *span);
/* Frees; NULL is fine. */
void cg_zone_free(struct cg_zone *zone);

#endif
