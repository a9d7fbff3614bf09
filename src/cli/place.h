/* place.h - where the events of a verb are: a running instance, or a data directory that nobody has
 * open, which is then opened here. Both answer the same requests.
 *
 * How to use: cg_place_open, cg_place_call as often as wanted, cg_place_close.
 * Owns: the connection or the files. Thread: one. */
#ifndef CG_CLI_PLACE_H
#define CG_CLI_PLACE_H

#include "cli/local.h"
#include "cli/remote.h"

/* One of the two is not NULL while it is open. */
struct cg_place {
  struct cg_client *client; /* Of a running instance. */
  struct cg_local *local;   /* The files, opened here. */
};

/* Opens the place of a data directory; `makes`: files that are not there are made. False, after a
 * complaint; then *code is the exit code. */
bool cg_place_open(struct cg_place *place, const char *data, bool makes, int *code);
/* Closes it; false, after a complaint, when what was written may not be durable. */
bool cg_place_close(struct cg_place *place);
/* One request; the target (see cg_remote_target) is released. False, after a complaint, when there
 * is no answer at all. */
bool cg_place_call(struct cg_place *place, const char *method, struct cg_buf *target,
                   const char *body, size_t size, long *status, const struct cg_buf **answer);
/* Where the next page of the last answer begins, "" when there is none; valid until the next
 * call. */
const char *cg_place_next(const struct cg_place *place);

#endif
