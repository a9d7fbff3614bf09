/* http_socket.h - names of Unix sockets that are longer than an address holds.
 *
 * An address has 107 bytes. A longer path is reached through a descriptor of its directory,
 * /proc/self/fd/<n>/<file>.
 * Owns: that descriptor. Thread: any. */
#ifndef CG_HTTP_HTTP_SOCKET_H
#define CG_HTTP_HTTP_SOCKET_H

#include <sys/un.h>

#include "base/err.h"

/* A name that fits. */
struct cg_http_socket_name {
  char text[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* Zero-terminated. */
  int directory; /* Keeps the name valid; -1 when the path itself fits. */
};

/* Finds a name for `path`, valid until cg_http_socket_name_end. CG_EINVAL: even the file's own name
 * is too long; else why the directory cannot be opened. */
enum cg_code cg_http_socket_name(struct cg_http_socket_name *name, const char *path,
                                 struct cg_err *err);
void cg_http_socket_name_end(struct cg_http_socket_name *name);

#endif
