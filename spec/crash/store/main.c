/* main.c - kills a program that writes a store, in several ways, and checks what is left.
 *
 * Usage: store_crash MODE ...
 *   write DIR ACKED COUNT        checks DIR (see story.h), appends COUNT commits; each
 *                                acknowledged number goes to stdout as 8 bytes
 *   check DIR ACKED              checks; prints how many commits there are
 *   kill DIR CYCLES SEED         SIGKILL under load at a random moment, CYCLES times
 *   points DIR CYCLES SEED       SIGKILL at every named point, CYCLES times each (points.h)
 *   power DIR IMAGE WORK CYCLES SEED [lie]   copies IMAGE, the mounted disk that DIR lies in,
 *                                while the writer stands still, and checks the copy; with "lie" no
 *                                sync is done and a loss must show
 *   full DIR FILLER              appends until the disk is full, reads, removes FILLER, goes on
 * Exit code: 0 all is well, 1 not. Everything it starts ends with it.
 * Owns: its children. Thread: one. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

#define COUNT_MAX UINT64_C(1000000) /* Commits a writer makes when it is to be killed. */
#define POINTS_MAX 256
#define POINTS_MIN 40 /* So many different ones, at least. */
#define COMMITS 600   /* What a writer makes when a point is to be met. */
#define COMMAND_BYTES 4096
#define STORY_COMMITS_MAX 6000 /* A longer story begins anew, so that checking stays short. */

/* A point, and how often a run passes it. */
struct passed {
  char name[POINTS_NAME_BYTES]; /* See points.h. */
  uint64_t count;               /* Times. */
};

/* A writer under way. */
struct writer {
  pid_t pid;      /* The process. */
  int acks;       /* Its acknowledgements. */
  uint64_t acked; /* The last one read. */
};

static uint64_t seed_state;

static uint64_t chance(uint64_t bound) {
  seed_state = seed_state * 6364136223846793005u + 1442695040888963407u;
  return (seed_state >> 33) % bound;
}

static int fail(const char *what, const char *why) {
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
    return fail("open", err.message), false;
  if (story_check(story, acked))
    return true;
  return fail("check", story->fault), false;
}

static int write_mode(const char *directory, uint64_t acked, uint64_t count) {
  struct story story;
  struct cg_err err;
  if (!open_and_check(&story, directory, acked))
    return 1;
  if (story_write(&story, count, acknowledge, NULL, &err) != CG_OK)
    return fail("write", err.message);
  return story_close(&story, &err) == CG_OK ? 0 : fail("close", err.message);
}

/* Checks in a process of its own, as a restart would; *commits gets how many there are. */
static bool check(const char *directory, uint64_t acked, uint64_t *commits) {
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
      _exit(fail("close", err.message));
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

/* Starts a writer; it ends when this process does. */
static struct writer start(const char *directory, uint64_t acked, uint64_t count) {
  int ends[2];
  if (pipe(ends) != 0)
    exit(fail("pipe", strerror(errno)));
  struct writer writer = {.pid = fork(), .acks = ends[0], .acked = acked};
  if (writer.pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    _exit(write_mode(directory, acked, count));
  }
  close(ends[1]);
  return writer;
}

/* Reads one acknowledgement; false at the end. */
static bool next_ack(struct writer *writer) {
  uint64_t commit;
  if (read(writer->acks, &commit, sizeof(commit)) != sizeof(commit))
    return false;
  writer->acked = commit;
  return true;
}

/* Reads what was acknowledged to the end and waits for the writer; its wait status. */
static int finish(struct writer *writer) {
  while (next_ack(writer))
    continue;
  close(writer->acks);
  int status;
  waitpid(writer->pid, &status, 0);
  return status;
}

static bool was_killed(int status) {
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Runs a command; false unless it ends with 0. */
__attribute__((format(printf, 1, 2))) static bool run(const char *format, ...) {
  char command[COMMAND_BYTES];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(command, sizeof(command), format, arguments);
  va_end(arguments);
  return size > 0 && (size_t)size < sizeof(command) && system(command) == 0;
}

/* Removes a directory, so that a story can begin anew. */
static void remove_all(const char *directory) {
  if (!run("rm -rf '%s'", directory))
    exit(fail("remove", directory));
}

/* Runs until some acknowledgements and a random moment later, and kills. */
static int kill_mode(const char *directory, uint64_t cycles) {
  uint64_t acked = 0, killed = 0;
  for (uint64_t cycle = 0; cycle < cycles; cycle++) {
    struct writer writer = start(directory, acked, COUNT_MAX);
    uint64_t target = chance(60);
    while (target-- > 0 && next_ack(&writer))
      continue;
    for (volatile uint64_t turn = chance(400000); turn > 0; turn--)
      continue; /* So that the moment does not hang on an acknowledgement. */
    kill(writer.pid, SIGKILL);
    killed += was_killed(finish(&writer));
    uint64_t commits;
    if (!check(directory, writer.acked, &commits))
      return fail("kill", "see above");
    acked = commits; /* What is there after a clean close stays. */
    if (commits > STORY_COMMITS_MAX) {
      remove_all(directory);
      acked = 0;
    }
  }
  printf("%" PRIu64 " SIGKILLs under load: nothing acknowledged was lost\n", killed);
  return killed == cycles ? 0 : fail("kill", "a writer ended before it was killed");
}

/* Makes the store as a strike finds it: not there, or left behind by a kill; what was acknowledged.
 */
static uint64_t prepare(const char *directory, bool is_new) {
  remove_all(directory);
  if (is_new)
    return 0;
  points_arm(POINTS_KILL, "within:pwrite:segment", 12);
  struct writer writer = start(directory, 0, 1000);
  points_arm(POINTS_KILL, NULL, 0);
  if (!was_killed(finish(&writer)))
    exit(fail("points", "the writer was not killed"));
  return writer.acked;
}

/* Learns which points a run passes, and how often; how many they are. */
static size_t learn(const char *directory, struct passed passed[POINTS_MAX], bool is_new) {
  uint64_t acked = prepare(directory, is_new);
  char path[COMMAND_BYTES];
  snprintf(path, sizeof(path), "%s.points", directory);
  pid_t pid = fork();
  if (pid == 0) {
    if (freopen(path, "w", stderr) == NULL || freopen("/dev/null", "w", stdout) == NULL)
      _exit(1);
    int code = write_mode(directory, acked, COMMITS);
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

/* Strikes at one point and checks what is left, twice, because opening changes it. */
static bool strike(const char *directory, const char *name, uint64_t occurrence, bool is_new) {
  uint64_t acked = prepare(directory, is_new);
  points_arm(POINTS_KILL, name, occurrence);
  struct writer writer = start(directory, acked, COMMITS);
  points_arm(POINTS_KILL, NULL, 0);
  int status = finish(&writer);
  uint64_t commits;
  if (status != 0 && !was_killed(status)) /* A point by chance may come less often this time. */
    return false;
  return check(directory, writer.acked, &commits) && check(directory, commits, &commits);
}

static int points_mode(const char *directory, uint64_t cycles) {
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
      for (uint64_t cycle = 0; cycle < cycles; cycle++) {
        uint64_t occurrence = cycle == 0 ? 1 : 1 + chance(point->count);
        if (strike(directory, point->name, occurrence, is_new))
          continue;
        fprintf(stderr, "at %s, occurrence %" PRIu64 "\n", point->name, occurrence);
        return fail("points", "see above");
      }
    }
  }
  printf("%zu named points, %" PRIu64 " kills at each: nothing acknowledged was lost\n", names,
         cycles);
  return names >= POINTS_MIN ? 0 : fail("points", "fewer points than promised were passed");
}

/* --- power --- */

/* Copies the image while all of the writer stands still, and checks the copy. */
static bool lose_power(const char *directory, const char *image, const char *work,
                       struct writer *writer, bool *is_well) {
  char copy[COMMAND_BYTES], mount[COMMAND_BYTES], place[COMMAND_BYTES * 2];
  snprintf(copy, sizeof(copy), "%s/copy.img", work);
  snprintf(mount, sizeof(mount), "%s/copy", work);
  const char *slash = strrchr(directory, '/');
  snprintf(place, sizeof(place), "%s/%s", mount, slash ? slash + 1 : directory);
  int status;
  kill(writer->pid, SIGSTOP);
  waitpid(writer->pid, &status, WUNTRACED);
  fcntl(writer->acks, F_SETFL, O_NONBLOCK);
  while (next_ack(writer)) /* All that it has told of by now. */
    continue;
  fcntl(writer->acks, F_SETFL, 0);
  uint64_t acked = writer->acked;
  bool is_done = run("cp '%s' '%s'", image, copy);
  kill(writer->pid, SIGCONT);
  if (!is_done || !run("mount -o loop '%s' '%s'", copy, mount))
    return fail("power", "the copy cannot be mounted"), false;
  uint64_t commits;
  *is_well = check(place, acked, &commits);
  return run("umount '%s'", mount);
}

static int power_mode(const char *directory, const char *image, const char *work, uint64_t cycles,
                      bool is_lying) {
  uint64_t lost = 0, acked = 0;
  if (is_lying)
    points_lie_about_syncs();
  struct writer writer = start(directory, 0, COUNT_MAX);
  for (uint64_t cycle = 0; cycle < cycles; cycle++) {
    for (uint64_t target = 1 + chance(40); target > 0 && next_ack(&writer); target--)
      continue;
    bool is_well;
    if (!lose_power(directory, image, work, &writer, &is_well))
      return 1;
    lost += !is_well;
    if (!is_well && !is_lying)
      return fail("power", "see above");
    if (writer.acked > STORY_COMMITS_MAX) { /* Begin anew: the image is small. */
      kill(writer.pid, SIGKILL);
      finish(&writer);
      remove_all(directory);
      writer = start(directory, acked, COUNT_MAX);
    }
  }
  kill(writer.pid, SIGKILL);
  finish(&writer);
  printf("%" PRIu64 " power losses, %" PRIu64 " with a loss%s\n", cycles, lost,
         is_lying ? " (nothing was synced)" : "");
  return is_lying && lost == 0 ? fail("power", "without syncs nothing was lost: no proof") : 0;
}

/* --- full --- */

static int full_mode(const char *directory, const char *filler) {
  struct story story;
  struct cg_err err;
  if (story_open(&story, directory, points_fs(), UINT64_C(1) << 20, &err) != CG_OK)
    return fail("open", err.message);
  enum cg_code code = story_write(&story, COUNT_MAX, NULL, NULL, &err);
  uint64_t commits = story.commit;
  if (code != CG_EFULL)
    return fail("full", code == CG_OK ? "the disk did not become full" : err.message);
  printf("full after %" PRIu64 " commits: %s\n", commits, err.message);
  if (!story_check(&story, commits))
    return fail("reads while full", story.fault);
  if (unlink(filler) != 0)
    return fail(filler, strerror(errno));
  if (story_write(&story, 500, NULL, NULL, &err) != CG_OK)
    return fail("appends after space is back", err.message);
  if (!story_check(&story, commits + 500) || story_close(&story, &err) != CG_OK)
    return fail("after space is back", story.fault);
  uint64_t found;
  if (!check(directory, commits + 500, &found) || found != commits + 500)
    return fail("full", "after a restart");
  printf("went on without restart when space was back: %" PRIu64 " commits\n", found);
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 2 ? argv[1] : "";
  uint64_t numbers[8] = {0};
  for (int i = 3; i < argc && i < 8; i++)
    numbers[i] = strtoull(argv[i], NULL, 10);
  if (strcmp(mode, "write") == 0 && argc == 5)
    return write_mode(argv[2], numbers[3], numbers[4]);
  if (strcmp(mode, "check") == 0 && argc == 4) {
    uint64_t commits = 0;
    bool is_well = check(argv[2], numbers[3], &commits);
    printf("%" PRIu64 " commits\n", commits);
    return is_well ? 0 : 1;
  }
  if (strcmp(mode, "full") == 0 && argc == 4)
    return full_mode(argv[2], argv[3]);
  if (strcmp(mode, "power") == 0 && argc >= 7) {
    seed_state = numbers[6];
    return power_mode(argv[2], argv[3], argv[4], numbers[5], argc > 7);
  }
  seed_state = numbers[4];
  if (strcmp(mode, "kill") == 0 && argc == 5)
    return kill_mode(argv[2], numbers[3]);
  if (strcmp(mode, "points") == 0 && argc == 5)
    return points_mode(argv[2], numbers[3]);
  return fail("usage", "see the head of main.c");
}
