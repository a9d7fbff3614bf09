/* main.c - kills a program that writes a store, in several ways, and checks what is left.
 *
 * Usage: store_crash MODE ...
 *   write DIR ACKED COUNT        checks DIR (see story.h), appends COUNT commits; each
 *                                acknowledged number goes to stdout as 8 bytes
 *   check DIR ACKED              checks; prints how many commits there are
 *   kill DIR CYCLES SEED         SIGKILL under load at a random moment, CYCLES times
 *   points DIR CYCLES SEED       SIGKILL at every named point, CYCLES times each (points.h)
 *   errors DIR CYCLES SEED       errors and short calls at every named point, once and lasting
 *   memory DIR CYCLES SEED       the k-th allocation fails, for CYCLES k spread over a whole run
 *   power DIR IMAGE WORK CYCLES SEED [lie]   copies IMAGE, the mounted disk that DIR lies in,
 *                                while the writer stands still, and checks the copy; with "lie" no
 *                                sync is done and a loss must show
 *   full DIR FILLER              appends until the disk is full, reads, removes FILLER, goes on
 * Exit code: 0 all is well, 1 not. Everything it starts ends with it.
 * Owns: its children. Thread: one. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disks.h"
#include "harness.h"
#include "strikes.h"

/* Runs until some acknowledgements and a random moment later, and kills. */
static int kill_mode(const char *directory, uint64_t cycles) {
  uint64_t acked = 0, killed = 0;
  for (uint64_t cycle = 0; cycle < cycles; cycle++) {
    struct harness_writer writer = harness_start(directory, acked, HARNESS_COUNT_MAX);
    uint64_t target = harness_chance(60);
    while (target-- > 0 && harness_next_ack(&writer))
      continue;
    for (volatile uint64_t turn = harness_chance(400000); turn > 0; turn--)
      continue; /* So that the moment does not hang on an acknowledgement. */
    kill(writer.pid, SIGKILL);
    killed += harness_was_killed(harness_finish(&writer));
    uint64_t commits;
    if (!harness_check(directory, writer.acked, &commits))
      return harness_fail("kill", "see above");
    acked = commits; /* What is there after a clean close stays. */
    if (commits > HARNESS_COMMITS_MAX) {
      harness_remove(directory);
      acked = 0;
    }
  }
  printf("%" PRIu64 " SIGKILLs under load: nothing acknowledged was lost\n", killed);
  return killed == cycles ? 0 : harness_fail("kill", "a writer ended before it was killed");
}

int main(int argc, char **argv) {
  const char *mode = argc > 2 ? argv[1] : "";
  uint64_t numbers[8] = {0};
  for (int i = 3; i < argc && i < 8; i++)
    numbers[i] = strtoull(argv[i], NULL, 10);
  if (strcmp(mode, "write") == 0 && argc == 5)
    return harness_write(argv[2], numbers[3], numbers[4]);
  if (strcmp(mode, "check") == 0 && argc == 4) {
    uint64_t commits = 0;
    bool is_well = harness_check(argv[2], numbers[3], &commits);
    printf("%" PRIu64 " commits\n", commits);
    return is_well ? 0 : 1;
  }
  if (strcmp(mode, "full") == 0 && argc == 4)
    return disks_full(argv[2], argv[3]);
  if (strcmp(mode, "power") == 0 && argc >= 7) {
    harness_seed(numbers[6]);
    return disks_power(argv[2], argv[3], argv[4], numbers[5], argc > 7);
  }
  harness_seed(numbers[4]);
  if (strcmp(mode, "kill") == 0 && argc == 5)
    return kill_mode(argv[2], numbers[3]);
  if (strcmp(mode, "points") == 0 && argc == 5)
    return strikes_kill(argv[2], numbers[3]);
  if (strcmp(mode, "errors") == 0 && argc == 5)
    return strikes_fail(argv[2], numbers[3]);
  if (strcmp(mode, "memory") == 0 && argc == 5)
    return strikes_memory(argv[2], numbers[3]);
  return harness_fail("usage", "see the head of main.c");
}
