/* sim_fs.c - a file system in memory that can crash, fail and forget like a real one.
 *
 * The bytes of files are the business of sim_file.c. There are two tables of names: what programs
 * see, and what is on the disk; a change goes to the first and onto a list, sync_dir applies the
 * list's changes of one directory to the second, and a crash applies some of them.
 * Owns: all files. Thread: one. */
#include "support/sim_fs.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/sim_file.h"

#define HANDLES_MAX 64
#define PATH_BYTES 256
#define FILES_MAX 4096
#define NAMES_MAX 512
#define DIRECTORY (-1) /* Stands in a name instead of a file. */

/* A name. */
struct name {
  char path[PATH_BYTES]; /* Empty: no name. */
  int file;              /* Index, or DIRECTORY. */
};

/* A change of names that is not synced; `from` or `to` may be empty. */
struct change {
  char from[PATH_BYTES]; /* Removed. */
  char to[PATH_BYTES];   /* Put in place. */
  int file;              /* What `to` names. */
};

/* The file system. */
struct sim_fs {
  struct cg_fs calls;               /* Filled in once. */
  uint64_t random;                  /* State of the generator. */
  struct sim_file files[FILES_MAX]; /* Never reused. */
  int file_count;                   /* How many. */
  struct name seen[NAMES_MAX];      /* Names that programs see. */
  struct name disk[NAMES_MAX];      /* Names that are durable. */
  struct change changes[NAMES_MAX]; /* Not synced, in order. */
  int change_count;                 /* How many. */
  int handles[HANDLES_MAX];         /* File of each handle + 1; 0: closed. */
  enum sim_fault fault;             /* Planned. */
  int fault_error;                  /* Its errno. */
  uint64_t fault_call;              /* At which call. */
  bool fault_is_lasting;            /* And at all later ones. */
  bool has_faulted;                 /* It has happened. */
  bool is_crashed;                  /* All calls fail. */
  uint64_t call_count;              /* Calls so far. */
  uint64_t sync_count;              /* Syncs so far. */
  uint64_t space_bytes;             /* Size of the disk; 0: no bound. */
  bool refuses_allocate;            /* Allocate is not supported. */
};

uint64_t sim_fs_random(struct sim_fs *sim, uint64_t bound) {
  return sim_file_random(&sim->random, bound);
}

/* --- names --- */

static struct name *find_name(struct name *names, const char *path) {
  for (int index = 0; index < NAMES_MAX; index++)
    if (names[index].path[0] && strcmp(names[index].path, path) == 0)
      return &names[index];
  return NULL;
}

static void set_name(struct name *names, const char *path, int file) {
  struct name *name = find_name(names, path);
  for (int index = 0; !name && index < NAMES_MAX; index++)
    if (!names[index].path[0])
      name = &names[index];
  assert(name && strlen(path) < PATH_BYTES);
  strcpy(name->path, path);
  name->file = file;
}

static void clear_name(struct name *names, const char *path) {
  struct name *name = find_name(names, path);
  if (name)
    name->path[0] = 0;
}

/* The directory that holds a path. */
static void parent_of(const char *path, char parent[PATH_BYTES]) {
  assert(strlen(path) < PATH_BYTES && path[0] == '/');
  strcpy(parent, path);
  char *slash = strrchr(parent, '/');
  slash[slash == parent ? 1 : 0] = 0;
}

static bool is_directory(struct sim_fs *sim, const char *path) {
  const struct name *name = find_name(sim->seen, path);
  return strcmp(path, "/") == 0 || (name && name->file == DIRECTORY);
}

static void apply(struct name *names, const struct change *change) {
  if (change->from[0])
    clear_name(names, change->from);
  if (change->to[0])
    set_name(names, change->to, change->file);
}

/* Changes names for programs at once, on disk later. */
static void change_names(struct sim_fs *sim, const char *from, const char *to, int file) {
  assert(sim->change_count < NAMES_MAX);
  struct change *change = &sim->changes[sim->change_count++];
  snprintf(change->from, PATH_BYTES, "%s", from);
  snprintf(change->to, PATH_BYTES, "%s", to);
  change->file = file;
  apply(sim->seen, change);
}

/* --- files --- */

static int new_file(struct sim_fs *sim) {
  assert(sim->file_count < FILES_MAX);
  sim->files[sim->file_count] = (struct sim_file){.lock = -1};
  return sim->file_count++;
}

/* --- faults --- */

/* Begins a call: 0, or the negative errno it must return. *is_crashing: do part of it first.
 * *is_short: do part of it and succeed. */
static int begin_call(struct sim_fs *sim, bool *is_crashing, bool *is_short) {
  *is_crashing = false;
  *is_short = false;
  if (sim->is_crashed)
    return -EIO;
  sim->call_count++;
  if (sim->fault == SIM_FAULT_NONE || sim->call_count < sim->fault_call ||
      (sim->call_count > sim->fault_call && !sim->fault_is_lasting))
    return 0;
  sim->has_faulted = true;
  switch (sim->fault) {
  case SIM_FAULT_ERROR:
    return -sim->fault_error;
  case SIM_FAULT_SHORT:
    *is_short = true;
    return 0;
  default:
    sim->is_crashed = true;
    *is_crashing = true;
    return 0;
  }
}

/* begin_call for calls that happen or do not: -EIO after a crash, done or not by chance. */
static int begin_simple(struct sim_fs *sim, bool *is_done) {
  bool is_crashing, is_short;
  int error = begin_call(sim, &is_crashing, &is_short);
  *is_done = error == 0 && (!is_crashing || sim_fs_random(sim, 2) == 0);
  return is_crashing ? -EIO : error;
}

static struct sim_file *file_of(struct sim_fs *sim, int handle) {
  assert(handle >= 0 && handle < HANDLES_MAX && sim->handles[handle] > 0);
  return &sim->files[sim->handles[handle] - 1];
}

/* --- the calls --- */

static int sim_open(void *arg, const char *path, enum cg_fs_mode mode) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  char parent[PATH_BYTES];
  parent_of(path, parent);
  struct name *name = find_name(sim->seen, path);
  if (error == 0 && !is_directory(sim, parent))
    return find_name(sim->seen, parent) ? -ENOTDIR : -ENOENT;
  if (error == 0 && name && mode == CG_FS_CREATE)
    return -EEXIST;
  if (error == 0 && !name && (mode == CG_FS_READ || mode == CG_FS_WRITE))
    return -ENOENT;
  if (error == 0 && name && name->file == DIRECTORY)
    return -EISDIR;
  int file = name ? name->file : DIRECTORY;
  if (is_done && !name && mode != CG_FS_READ && mode != CG_FS_WRITE) {
    file = new_file(sim);
    change_names(sim, "", path, file);
  }
  if (error != 0)
    return error;
  for (int handle = 0; handle < HANDLES_MAX; handle++)
    if (sim->handles[handle] == 0) {
      sim->handles[handle] = file + 1;
      return handle;
    }
  return -EMFILE;
}

/* Not counted as a call: it cannot do harm, and nobody looks at its result. */
static int sim_close(void *arg, int handle) {
  struct sim_fs *sim = arg;
  if (sim->is_crashed)
    return -EIO;
  struct sim_file *file = file_of(sim, handle);
  if (file->lock == handle)
    file->lock = -1;
  sim->handles[handle] = 0;
  return 0;
}

static int64_t sim_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset) {
  struct sim_fs *sim = arg;
  bool is_crashing, is_short;
  int error = begin_call(sim, &is_crashing, &is_short);
  if (error != 0 || is_crashing)
    return error != 0 ? error : -EIO;
  const struct sim_file *file = file_of(sim, handle);
  if (offset >= file->seen_size)
    return 0;
  if (size > file->seen_size - offset)
    size = (size_t)(file->seen_size - offset);
  if (is_short && size > 1)
    size = 1 + sim_fs_random(sim, size - 1);
  memcpy(bytes, file->seen + offset, size);
  return (int64_t)size;
}

static int64_t sim_pwrite(void *arg, int handle, const void *bytes, size_t size, uint64_t offset) {
  struct sim_fs *sim = arg;
  bool is_crashing, is_short;
  int error = begin_call(sim, &is_crashing, &is_short);
  if (error != 0)
    return error;
  if ((is_short || is_crashing) && size > 1)
    size = 1 + sim_fs_random(sim, size - 1);
  sim_file_write(file_of(sim, handle), bytes, size, offset);
  return is_crashing ? -EIO : (int64_t)size;
}

static int sim_datasync(void *arg, int handle) {
  struct sim_fs *sim = arg;
  sim->sync_count++;
  bool is_crashing, is_short;
  int error = begin_call(sim, &is_crashing, &is_short);
  if (sim->is_crashed && !is_crashing)
    return error;
  struct sim_file *file = file_of(sim, handle);
  if (error == 0 && (!is_crashing || sim_fs_random(sim, 2) == 0))
    sim_file_sync(file);
  else if (error != 0 && error != -EINTR)
    sim_file_settle(file, &sim->random); /* The cache counts as clean now, whatever the disk has. */
  return is_crashing ? -EIO : error;
}

static int sim_truncate(void *arg, int handle, uint64_t size) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  if (!is_done)
    return error;
  struct sim_file *file = file_of(sim, handle);
  sim_file_truncate(file, size);
  return error;
}

static int sim_allocate(void *arg, int handle, uint64_t offset, uint64_t size) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  if (!is_done)
    return error;
  if (sim->refuses_allocate)
    return -EOPNOTSUPP;
  struct sim_file *file = file_of(sim, handle);
  uint64_t total = 0;
  for (int index = 0; index < NAMES_MAX; index++)
    if (sim->seen[index].path[0] && sim->seen[index].file != DIRECTORY)
      total += sim->files[sim->seen[index].file].reserved_bytes;
  uint64_t wanted = offset + size > file->reserved_bytes ? offset + size - file->reserved_bytes : 0;
  if (wanted > 0 && sim->space_bytes > 0 && total + wanted > sim->space_bytes)
    return -ENOSPC;
  file->reserved_bytes += wanted;
  return error;
}

static int64_t sim_size(void *arg, int handle) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  return error != 0 ? error : (int64_t)file_of(sim, handle)->seen_size;
}

static int sim_rename(void *arg, const char *from, const char *to) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  const struct name *name = find_name(sim->seen, from);
  if (error == 0 && !name)
    return -ENOENT;
  if (is_done && name)
    change_names(sim, from, to, name->file);
  return error;
}

static int sim_unlink(void *arg, const char *path) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  const struct name *name = find_name(sim->seen, path);
  if (error == 0 && !name)
    return -ENOENT;
  if (is_done && name)
    change_names(sim, path, "", name->file);
  return error;
}

static int sim_mkdir(void *arg, const char *path) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  if (error == 0 && find_name(sim->seen, path))
    return -EEXIST;
  if (is_done && !find_name(sim->seen, path))
    change_names(sim, "", path, DIRECTORY);
  return error;
}

/* Makes the changes of names in one directory durable. */
static void settle_directory(struct sim_fs *sim, const char *path) {
  int kept = 0;
  for (int index = 0; index < sim->change_count; index++) {
    const struct change *change = &sim->changes[index];
    char parent[PATH_BYTES];
    parent_of(change->to[0] ? change->to : change->from, parent);
    if (strcmp(parent, path) == 0)
      apply(sim->disk, change);
    else
      sim->changes[kept++] = *change;
  }
  sim->change_count = kept;
}

static int sim_sync_dir(void *arg, const char *path) {
  struct sim_fs *sim = arg;
  sim->sync_count++;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  if (error == 0 && !is_directory(sim, path))
    return -ENOENT;
  if (is_done)
    settle_directory(sim, path);
  return error;
}

static int sim_list(void *arg, const char *path, cg_fs_name_fn each, void *each_arg) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  if (error != 0)
    return error;
  if (!is_directory(sim, path))
    return -ENOENT;
  for (int index = 0; index < NAMES_MAX; index++) {
    char parent[PATH_BYTES];
    if (!sim->seen[index].path[0])
      continue;
    parent_of(sim->seen[index].path, parent);
    if (strcmp(parent, path) != 0)
      continue;
    int result = each(each_arg, strrchr(sim->seen[index].path, '/') + 1);
    if (result != 0)
      return result;
  }
  return 0;
}

/* The mapping is a copy of what programs see now. */
static int sim_map(void *arg, int handle, uint64_t size, const uint8_t **bytes) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  if (error != 0)
    return error;
  const struct sim_file *file = file_of(sim, handle);
  assert(size > 0 && size <= file->seen_size);
  uint8_t *copy = cg_alloc(size);
  memcpy(copy, file->seen, size);
  *bytes = copy;
  return 0;
}

static void sim_unmap(void *arg, const uint8_t *bytes, uint64_t size) {
  (void)arg;
  (void)size;
  cg_free((void *)(uintptr_t)bytes);
}

static int sim_lock(void *arg, int handle) {
  struct sim_fs *sim = arg;
  bool is_done;
  int error = begin_simple(sim, &is_done);
  if (error != 0)
    return error;
  struct sim_file *file = file_of(sim, handle);
  if (file->lock >= 0 && file->lock != handle)
    return -EWOULDBLOCK;
  file->lock = handle;
  return 0;
}

/* --- the face --- */

struct sim_fs *sim_fs_new(uint64_t seed) {
  struct sim_fs *sim = cg_alloc(sizeof(*sim));
  sim->random = seed;
  sim->calls = (struct cg_fs){
      .arg = sim,
      .open = sim_open,
      .close = sim_close,
      .pread = sim_pread,
      .pwrite = sim_pwrite,
      .datasync = sim_datasync,
      .truncate = sim_truncate,
      .allocate = sim_allocate,
      .size = sim_size,
      .rename = sim_rename,
      .unlink = sim_unlink,
      .mkdir = sim_mkdir,
      .sync_dir = sim_sync_dir,
      .list = sim_list,
      .map = sim_map,
      .unmap = sim_unmap,
      .lock = sim_lock,
  };
  return sim;
}

void sim_fs_free(struct sim_fs *sim) {
  if (!sim)
    return;
  for (int index = 0; index < sim->file_count; index++)
    sim_file_deinit(&sim->files[index]);
  cg_free(sim);
}

const struct cg_fs *sim_fs_calls(struct sim_fs *sim) {
  return &sim->calls;
}

void sim_fs_fault(struct sim_fs *sim, enum sim_fault fault, int error, uint64_t count,
                  bool is_lasting) {
  sim->fault = fault;
  sim->fault_error = error;
  sim->fault_call = sim->call_count + count;
  sim->fault_is_lasting = is_lasting;
  sim->has_faulted = false;
}

bool sim_fs_has_faulted(const struct sim_fs *sim) {
  return sim->has_faulted;
}

uint64_t sim_fs_call_count(const struct sim_fs *sim) {
  return sim->call_count;
}

uint64_t sim_fs_sync_count(const struct sim_fs *sim) {
  return sim->sync_count;
}

void sim_fs_limit_space(struct sim_fs *sim, uint64_t bytes) {
  sim->space_bytes = bytes;
}

void sim_fs_refuse_allocate(struct sim_fs *sim) {
  sim->refuses_allocate = true;
}

void sim_fs_kill(struct sim_fs *sim) {
  memset(sim->handles, 0, sizeof(sim->handles));
  for (int index = 0; index < sim->file_count; index++)
    sim->files[index].lock = -1;
  sim->fault = SIM_FAULT_NONE;
  sim->is_crashed = false;
}

void sim_fs_crash(struct sim_fs *sim) {
  sim_fs_kill(sim);
  for (int index = 0; index < sim->change_count; index++)
    if (sim_fs_random(sim, 2) == 0)
      apply(sim->disk, &sim->changes[index]);
  sim->change_count = 0;
  for (int index = 0; index < NAMES_MAX; index++) {
    char parent[PATH_BYTES];
    if (!sim->disk[index].path[0])
      continue;
    parent_of(sim->disk[index].path, parent);
    const struct name *above = find_name(sim->disk, parent);
    if (strcmp(parent, "/") != 0 && !(above && above->file == DIRECTORY))
      sim->disk[index].path[0] = 0; /* Its directory was never sure. */
  }
  memcpy(sim->seen, sim->disk, sizeof(sim->seen));
  for (int index = 0; index < sim->file_count; index++) {
    sim_file_settle(&sim->files[index], &sim->random);
    sim_file_forget(&sim->files[index]);
  }
}

uint8_t *sim_fs_bytes(struct sim_fs *sim, const char *path, size_t *size) {
  const struct name *name = find_name(sim->seen, path);
  if (!name || name->file == DIRECTORY)
    return NULL;
  *size = sim->files[name->file].seen_size;
  return sim->files[name->file].seen;
}

void sim_fs_put(struct sim_fs *sim, const char *path, const void *bytes, size_t size) {
  int file = new_file(sim);
  sim_file_make_room(&sim->files[file], size + 1); /* So that there are bytes when size is 0. */
  sim_file_write(&sim->files[file], bytes, size, 0);
  sim_file_sync(&sim->files[file]);
  set_name(sim->seen, path, file);
  set_name(sim->disk, path, file);
}

void sim_fs_put_directory(struct sim_fs *sim, const char *path) {
  set_name(sim->seen, path, DIRECTORY);
  set_name(sim->disk, path, DIRECTORY);
}

void sim_fs_remove(struct sim_fs *sim, const char *path) {
  clear_name(sim->seen, path);
  clear_name(sim->disk, path);
}
