/* harness.c - how writers are started, ended and checked.
 *
 * A writer tells by a pipe what was acknowledged; what it wrote before it was killed is still read.
 * Owns: its children. Thread: one. */
#include "harness.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "points.h"
#include "story.h"

static uint64_t seed_state;

void harness_seed(uint64_t seed) {
  seed_state = seed;
}

uint64_t harness_chance(uint64_t bound) {
  seed_state = seed_state * 6364136223846793005u + 1442695040888963407u;
  return (seed_state >> 33) % bound;
}

int harness_fail(const char *what, const char *why) {
  fprintf(stderr, "store_crash: %s: %s\n", what, why);
  return 1;
}

/* --- the writer's side --- */

static void acknowledge(void *arg, uint64_t commit) {
  (void)arg;
  if (write(STDOUT_FILENO, &commit, sizeof(commit)) != sizeof(commit))
    _exit(3);
}

/* Opens and checks; false when something is wrong. */
static bool open_and_check(struct story *story, const char *directory, uint64_t acked) {
  struct cg_err err;
  if (story_open(story, directory, points_fs(), STORY_SEGMENT_BYTES, &err) != CG_OK)
    return harness_fail("open", err.message), false;
  if (story_check(story, acked))
    return true;
  return harness_fail("check", story->fault), false;
}

int harness_write(const char *directory, uint64_t acked, uint64_t count) {
  struct story story;
  struct cg_err err;
  if (!open_and_check(&story, directory, acked))
    return 1;
  if (story_write(&story, count, acknowledge, NULL, &err) != CG_OK) {
    harness_fail("write", err.message);
    story_close(&story, &err);
    return 1;
  }
  return story_close(&story, &err) == CG_OK ? 0 : harness_fail("close", err.message);
}

bool harness_check(const char *directory, uint64_t acked, uint64_t *commits) {
  int ends[2];
  if (pipe(ends) != 0)
    return false;
  pid_t pid = fork();
  if (pid == 0) {
    struct story story;
    struct cg_err err;
    if (!open_and_check(&story, directory, acked))
      _exit(1);
    uint64_t found = story.commit;
    if (story_close(&story, &err) != CG_OK)
      _exit(harness_fail("close", err.message));
    _exit(write(ends[1], &found, sizeof(found)) == sizeof(found) ? 0 : 1);
  }
  close(ends[1]);
  bool is_well = read(ends[0], commits, sizeof(*commits)) == sizeof(*commits);
  close(ends[0]);
  int status;
  waitpid(pid, &status, 0);
  return is_well && status == 0;
}

/* --- the harness's side --- */

struct harness_writer harness_start(const char *directory, uint64_t acked, uint64_t count) {
  int ends[2];
  if (pipe(ends) != 0)
    exit(harness_fail("pipe", strerror(errno)));
  struct harness_writer writer = {.pid = fork(), .acks = ends[0], .acked = acked};
  if (writer.pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    _exit(harness_write(directory, acked, count));
  }
  close(ends[1]);
  return writer;
}

bool harness_next_ack(struct harness_writer *writer) {
  uint64_t commit;
  if (read(writer->acks, &commit, sizeof(commit)) != sizeof(commit))
    return false;
  writer->acked = commit;
  return true;
}

int harness_finish(struct harness_writer *writer) {
  while (harness_next_ack(writer))
    continue;
  close(writer->acks);
  int status;
  waitpid(writer->pid, &status, 0);
  return status;
}

bool harness_was_killed(int status) {
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

bool harness_run(const char *format, ...) {
  char command[HARNESS_COMMAND_BYTES];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(command, sizeof(command), format, arguments);
  va_end(arguments);
  return size > 0 && (size_t)size < sizeof(command) && system(command) == 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place) {
  (void)status;
  (void)type;
  (void)place;
  return remove(path);
}

void harness_remove(const char *directory) {
  if (nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
    exit(harness_fail("remove", directory));
}
