/* watch.h - tells when files below a directory change, once they have settled.
 *
 * Watches the directory and its subdirectories (inotify through libuv); new subdirectories are
 * taken up. Bursts are one call: `changed` comes when nothing has changed for the delay.
 * Owns: the handles. Thread: the loop thread. */
#ifndef CG_RUNTIME_WATCH_H
#define CG_RUNTIME_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct cg_watch;

/* Called on the loop thread; must not free the watch. */
typedef void (*cg_watch_fn)(void *arg);

/* Starts watching; names that begin with a dot are left out. Errors: CG_EIO with the path. */
enum cg_code cg_watch_start(struct cg_watch **watch, uv_loop_t *loop, const char *path,
                            uint32_t settle_ms, cg_watch_fn changed, void *arg, struct cg_err *err);
/* Stops watching; frees once the loop has turned. NULL is fine. */
void cg_watch_stop(struct cg_watch *watch);

#endif
