/* bind_fs.h - what the files of the module catga.native.fs share.
 *
 * Owns: nothing. Thread: the loop thread. */
#ifndef CG_BIND_BIND_FS_H
#define CG_BIND_BIND_FS_H

#include "bind/bind.h"

/* watch(path) -> watch | nil, err. In bind_fs_watch.c. */
int cg_bind_fs_watch(lua_State *L);
/* Makes the userdata type of watches. */
void cg_bind_fs_watch_type(lua_State *L);

#endif
