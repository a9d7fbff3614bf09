/* cli_log_keys.c - copies the keys of personal data beside a backup, and back.
 *
 * Owns: nothing. Thread: the main thread. */
#include "cli/cli_log_keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "keys"
#define TEMP_ENDING ".tmp"
#define WINDOW_BYTES 65536

/* Copies all bytes between two open files and syncs. False: errno says why. */
static bool copy_bytes(int from, int to) {
  char window[WINDOW_BYTES];
  ssize_t count;
  while ((count = read(from, window, sizeof(window))) != 0) {
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return false;
    for (ssize_t done = 0; done < count;) {
      ssize_t written = write(to, window + done, (size_t)(count - done));
      if (written < 0 && errno != EINTR)
        return false;
      if (written > 0)
        done += written;
    }
  }
  return fsync(to) == 0;
}

/* Copies one file under a temporary name and renames it. False: errno says why. */
static bool copy_file(const char *from_path, const char *to_path) {
  char temp_path[PATH_MAX];
  if (snprintf(temp_path, sizeof(temp_path), "%s" TEMP_ENDING, to_path) >= (int)sizeof(temp_path)) {
    errno = ENAMETOOLONG;
    return false;
  }
  int from = open(from_path, O_RDONLY | O_CLOEXEC);
  if (from < 0)
    return false;
  unlink(temp_path); /* A killed run may have left it. */
  int to = open(temp_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool is_done = to >= 0 && copy_bytes(from, to);
  int error = errno;
  if (to >= 0)
    close(to);
  close(from);
  if (is_done && rename(temp_path, to_path) == 0)
    return true;
  if (is_done)
    error = errno;
  if (to >= 0)
    unlink(temp_path);
  errno = error;
  return false;
}

/* Syncs a directory. False: errno says why. */
static bool sync_directory(const char *path) {
  int handle = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0)
    return false;
  bool is_synced = fsync(handle) == 0;
  close(handle);
  return is_synced;
}

/* Is it the name of a file of keys? */
static bool is_wanted(const char *name) {
  size_t size = strlen(name), ending = sizeof(TEMP_ENDING) - 1;
  return strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0 &&
         (size < ending || strcmp(name + size - ending, TEMP_ENDING) != 0);
}

enum cg_code cg_cli_log_keys_copy(const char *from, const char *to, uint32_t *count,
                                  struct cg_err *err) {
  *count = 0;
  DIR *directory = opendir(from);
  if (directory == NULL)
    return cg_err_set(err, cg_err_from_errno(errno), "open %s: %s", from, strerror(errno));
  enum cg_code code = CG_OK;
  const struct dirent *entry;
  while (code == CG_OK && (entry = readdir(directory)) != NULL) {
    char from_path[PATH_MAX], to_path[PATH_MAX];
    struct stat info;
    if (!is_wanted(entry->d_name))
      continue;
    int from_size = snprintf(from_path, sizeof(from_path), "%s/%s", from, entry->d_name);
    int to_size = snprintf(to_path, sizeof(to_path), "%s/%s", to, entry->d_name);
    if (from_size >= PATH_MAX || to_size >= PATH_MAX || stat(from_path, &info) != 0 ||
        !S_ISREG(info.st_mode))
      continue;
    if (!copy_file(from_path, to_path) || !sync_directory(to))
      code = cg_err_set(err, cg_err_from_errno(errno), "copy %s to %s: %s", from_path, to_path,
                        strerror(errno));
    else
      (*count)++;
  }
  closedir(directory);
  return code;
}
