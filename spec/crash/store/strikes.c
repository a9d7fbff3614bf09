/* strikes.c - faults at chosen calls of a writer, and what must be left after each.
 *
 * A run without faults is made first, to learn which points it passes.
 * Owns: its writers. Thread: one. */
#include "strikes.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocations.h"
#include "harness.h"
#include "points.h"

#define POINTS_MAX 256
#define POINTS_MIN 40 /* So many different ones, at least. */
#define COMMITS 600   /* What a writer makes when a point is to be met. */

/* A point, and how often a run passes it. */
struct passed {
  char name[POINTS_NAME_BYTES]; /* See points.h. */
  uint64_t count;               /* Times. */
};

/* Makes the store as a strike finds it: not there, or left behind by a kill; what was acknowledged.
 */
static uint64_t prepare(const char *directory, bool is_new) {
  harness_remove(directory);
  if (is_new)
    return 0;
  points_arm("within:pwrite:segment", 6);
  struct harness_writer writer = harness_start(directory, 0, 1000);
  points_arm(NULL, 0);
  if (!harness_was_killed(harness_finish(&writer)))
    exit(harness_fail("points", "the writer was not killed"));
  return writer.acked;
}

/* Learns which points a run passes, and how often; how many they are. */
static size_t learn(const char *directory, struct passed passed[POINTS_MAX], bool is_new) {
  uint64_t acked = prepare(directory, is_new);
  char path[HARNESS_COMMAND_BYTES];
  snprintf(path, sizeof(path), "%s.points", directory);
  pid_t pid = fork();
  if (pid == 0) {
    if (freopen(path, "w", stderr) == NULL || freopen("/dev/null", "w", stdout) == NULL)
      _exit(1);
    int code = harness_write(directory, acked, COMMITS);
    points_list(stderr);
    fclose(stderr);
    _exit(code);
  }
  int status;
  waitpid(pid, &status, 0);
  size_t count = 0;
  FILE *file = fopen(path, "r");
  while (file && count < POINTS_MAX &&
         fscanf(file, "%63s %" SCNu64, passed[count].name, &passed[count].count) == 2)
    count++;
  if (file)
    fclose(file);
  unlink(path);
  return status == 0 ? count : 0;
}

/* What happens at a point. */
struct plan {
  int error;       /* 0: the program is killed; else as in points_arm_error. */
  bool is_lasting; /* The same. */
};

/* Strikes at one point and checks what is left, twice, because opening changes it. */
static bool strike(const char *directory, const char *name, uint64_t occurrence, struct plan plan,
                   bool is_new) {
  uint64_t acked = prepare(directory, is_new);
  if (plan.error == 0)
    points_arm(name, occurrence);
  else
    points_arm_error(name, occurrence, plan.error, plan.is_lasting);
  struct harness_writer writer = harness_start(directory, acked, COMMITS);
  points_arm(NULL, 0);
  int status = harness_finish(&writer);
  /* A point may by chance be passed less often this time, and then the run ends well. */
  bool is_well = plan.error == 0 ? status == 0 || harness_was_killed(status)
                                 : WIFEXITED(status) && WEXITSTATUS(status) <= 1;
  uint64_t commits;
  if (!is_well)
    fprintf(stderr, "the writer ended with wait status %d\n", status);
  return is_well && harness_check(directory, writer.acked, &commits) &&
         harness_check(directory, commits, &commits);
}

/* Strikes `cycles` times at a point; false at the first failure, which is told. */
static bool strike_often(const char *directory, const struct passed *point, struct plan plan,
                         uint64_t cycles, bool is_new) {
  for (uint64_t cycle = 0; cycle < cycles; cycle++) {
    uint64_t occurrence = cycle == 0 ? 1 : 1 + harness_chance(point->count);
    if (strike(directory, point->name, occurrence, plan, is_new))
      continue;
    fprintf(stderr, "at %s, occurrence %" PRIu64 ", error %d%s, %s store\n", point->name,
            occurrence, plan.error, plan.is_lasting ? " lasting" : "", is_new ? "new" : "old");
    return false;
  }
  return true;
}

int strikes_kill(const char *directory, uint64_t cycles) {
  static struct passed passed[2][POINTS_MAX];
  size_t names = 0;
  for (int is_new = 1; is_new >= 0; is_new--) {
    size_t count = learn(directory, passed[is_new], is_new);
    for (size_t i = 0; i < count; i++) {
      struct passed *point = &passed[is_new][i];
      bool is_known = false;
      for (size_t k = 0; !is_new && k < POINTS_MAX; k++)
        is_known = is_known || strcmp(passed[1][k].name, point->name) == 0;
      names += !is_known;
      if (!strike_often(directory, point, (struct plan){0}, cycles, is_new))
        return harness_fail("points", "see above");
    }
  }
  printf("%zu named points, %" PRIu64 " kills at each: nothing acknowledged was lost\n", names,
         cycles);
  return names >= POINTS_MIN ? 0 : harness_fail("points", "fewer points than promised were passed");
}

int strikes_fail(const char *directory, uint64_t cycles) {
  static const int errors[] = {EIO, ENOSPC, EINTR, -POINTS_SHORT};
  static struct passed passed[POINTS_MAX];
  uint64_t strikes = 0;
  for (int is_new = 1; is_new >= 0; is_new--) {
    size_t count = learn(directory, passed, is_new);
    for (size_t i = 0; i < count; i++)
      for (size_t k = 0; k < 2 * sizeof(errors) / sizeof(errors[0]); k++) {
        struct plan plan = {.error = errors[k / 2], .is_lasting = k % 2 == 1};
        if (cycles == 1 && (i + k) % 4 != 0)
          continue; /* In a short run each point meets two of them; all are met at some points. */
        bool is_write = strstr(passed[i].name, "within:pwrite") != NULL;
        bool is_read = strstr(passed[i].name, "before:pread") != NULL;
        if (plan.error == -POINTS_SHORT ? !is_write && !is_read
                                        : strncmp(passed[i].name, "before:", 7) != 0)
          continue; /* What has happened cannot fail any more. */
        if (!strike_often(directory, &passed[i], plan, cycles, is_new))
          return harness_fail("errors", "see above");
        strikes += cycles;
      }
  }
  printf("%" PRIu64 " failing calls: nothing acknowledged was lost\n", strikes);
  return 0;
}

/* How many allocations a run makes. */
static uint64_t count_allocations(const char *directory) {
  int ends[2];
  uint64_t count = 0;
  harness_remove(directory);
  if (pipe(ends) != 0)
    return 0;
  pid_t pid = fork();
  if (pid == 0) {
    if (freopen("/dev/null", "w", stdout) == NULL)
      _exit(1);
    uint64_t before = allocations_count();
    int code = harness_write(directory, 0, COMMITS);
    count = allocations_count() - before;
    _exit(write(ends[1], &count, sizeof(count)) == sizeof(count) ? code : 1);
  }
  close(ends[1]);
  if (read(ends[0], &count, sizeof(count)) != sizeof(count))
    count = 0;
  close(ends[0]);
  waitpid(pid, NULL, 0);
  return count;
}

int strikes_memory(const char *directory, uint64_t cycles) {
  uint64_t count = count_allocations(directory);
  if (count == 0)
    return harness_fail("memory", "the run without faults failed");
  uint64_t step = cycles < count ? count / cycles : 1, strikes = 0;
  for (uint64_t k = 1; k <= count; k += step, strikes++) {
    harness_remove(directory);
    allocations_fail_at(k);
    struct harness_writer writer = harness_start(directory, 0, COMMITS);
    allocations_fail_at(0);
    int status = harness_finish(&writer);
    bool is_told = (WIFEXITED(status) && WEXITSTATUS(status) <= 1) ||
                   (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    uint64_t commits;
    if (is_told && harness_check(directory, writer.acked, &commits))
      continue;
    fprintf(stderr, "allocation %" PRIu64 " of %" PRIu64 ": wait status %d\n", k, count, status);
    return harness_fail("memory", "see above");
  }
  printf("%" PRIu64 " of %" PRIu64 " allocations failed: nothing acknowledged was lost\n", strikes,
         count);
  return 0;
}
