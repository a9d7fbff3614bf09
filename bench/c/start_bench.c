/* start_bench.c - from starting the program to its first command handled, beside a C program that
 * does nothing; resident memory then; size of the program.
 *
 * Both are started in turn, and both say "ready" on their output: an app that has sent a command
 * to itself, or this program called with "ready". Each start of the app has an empty data
 * directory.
 *
 * Usage: start_bench STARTS PROGRAM APP DIRECTORY
 * Owns: what is in DIRECTORY/start-*. Thread: one. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define STARTS_MAX 1000
#define LINE_BYTES 4096
#define PATH_BYTES 4096

/* A child and its ends of two pipes. */
struct child {
  pid_t pid;         /* Of the child. */
  int input;         /* Closed to let it end. */
  FILE *output;      /* Its lines. */
  uint64_t ready_ns; /* From before the start to the line "ready". */
};

static void fail(const char *what) {
  fprintf(stderr, "start_bench: %s\n", what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct cg_clock clock = cg_clock_system();
  return cg_clock_mono_ns(&clock);
}

/* Starts a program and waits until it says that it is ready. */
static void start(struct child *child, char *const *argv) {
  int input[2], output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0)
    fail("pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input[0], 0);
  posix_spawn_file_actions_adddup2(&actions, output[1], 1);
  extern char **environ;
  uint64_t begin_ns = now_ns();
  if (posix_spawn(&child->pid, argv[0], &actions, NULL, argv, environ) != 0)
    fail("cannot start the program");
  posix_spawn_file_actions_destroy(&actions);
  close(input[0]);
  close(output[1]);
  child->input = input[1];
  child->output = fdopen(output[0], "r");
  char line[LINE_BYTES];
  do {
    if (fgets(line, sizeof(line), child->output) == NULL)
      fail("the program ended before it was ready");
  } while (strncmp(line, "ready", 5) != 0);
  child->ready_ns = now_ns() - begin_ns;
}

static void stop(struct child *child) {
  close(child->input);
  int status;
  while (waitpid(child->pid, &status, 0) < 0)
    if (errno != EINTR)
      fail("wait");
  fclose(child->output);
  if (status != 0)
    fail("the program failed");
}

/* Resident KiB of a running child. */
static long resident_kib(const struct child *child) {
  char path[64], line[256];
  long kib = 0;
  snprintf(path, sizeof(path), "/proc/%d/status", (int)child->pid);
  FILE *file = fopen(path, "r");
  while (file != NULL && fgets(line, sizeof(line), file) != NULL)
    if (strncmp(line, "VmRSS:", 6) == 0)
      kib = strtol(line + 6, NULL, 10);
  if (file == NULL || kib == 0)
    fail("cannot read the memory of the program");
  fclose(file);
  return kib;
}

static int compare_ns(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

static double median_ms(uint64_t *samples_ns, size_t count) {
  qsort(samples_ns, count, sizeof(*samples_ns), compare_ns);
  return (double)samples_ns[count / 2] / 1e6;
}

static void run(size_t count, char *self, char *program, char *app, const char *directory) {
  uint64_t *app_ns = cg_alloc(count * sizeof(*app_ns));
  uint64_t *bare_ns = cg_alloc(count * sizeof(*bare_ns));
  long kib = 0;
  for (size_t i = 0; i < count; i++) {
    struct child child;
    start(&child, (char *[]){self, "ready", NULL});
    stop(&child);
    bare_ns[i] = child.ready_ns;

    char data[PATH_BYTES];
    snprintf(data, sizeof(data), "%s/start-%zu", directory, i);
    start(&child, (char *[]){program, "run", app, "--no-watch", "--data", data, NULL});
    kib = resident_kib(&child);
    stop(&child);
    app_ns[i] = child.ready_ns;
  }
  printf("start to first command: %.2f ms\n", median_ms(app_ns, count));
  printf("start of a bare C program: %.2f ms\n", median_ms(bare_ns, count));
  printf("idle memory: %.1f MiB\n", (double)kib / 1024);
  struct stat info;
  if (stat(program, &info) != 0)
    fail("cannot find the program");
  printf("program: %.2f MiB\n", (double)info.st_size / (1 << 20));
  cg_free(app_ns);
  cg_free(bare_ns);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "ready") == 0) {
    puts("ready");
    fflush(stdout);
    return getchar() == EOF ? 0 : 1;
  }
  size_t count = argc == 5 ? strtoul(argv[1], NULL, 10) : 0;
  if (count == 0 || count > STARTS_MAX)
    fail("usage: start_bench STARTS PROGRAM APP DIRECTORY");
  run(count, argv[0], argv[2], argv[3], argv[4]);
  return 0;
}
