/* http_socket.c - see http_socket.h. */
#include "http/http_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum cg_code cg_http_socket_name(struct cg_http_socket_name *name, const char *path,
                                 struct cg_err *err) {
  name->directory = -1;
  size_t size = strlen(path);
  if (size < sizeof(name->text)) {
    memcpy(name->text, path, size + 1);
    return CG_OK;
  }
  const char *slash = strrchr(path, '/');
  char directory[PATH_MAX];
  if (slash == NULL || (size_t)(slash - path) >= sizeof(directory))
    return cg_err_set(err, CG_EINVAL, "the socket's path is too long: %s", path);
  memcpy(directory, path, (size_t)(slash - path));
  directory[slash - path] = 0;
  name->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (name->directory < 0)
    return cg_err_set(err, cg_err_from_errno(errno), "open %s: %s", directory, strerror(errno));
  int written =
      snprintf(name->text, sizeof(name->text), "/proc/self/fd/%d/%s", name->directory, slash + 1);
  if (written < (int)sizeof(name->text))
    return CG_OK;
  cg_http_socket_name_end(name);
  return cg_err_set(err, CG_EINVAL, "the socket's name is too long: %s", slash + 1);
}

void cg_http_socket_name_end(struct cg_http_socket_name *name) {
  if (name->directory >= 0)
    close(name->directory);
  name->directory = -1;
}
