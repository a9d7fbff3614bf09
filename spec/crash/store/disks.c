/* disks.c - a disk that loses power, and one that is full.
 *
 * Owns: its writer. Thread: one. */
#include "disks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "points.h"
#include "story.h"

/* Copies the image while all of the writer stands still, and checks the copy. */
static bool lose_power(const char *directory, const char *image, const char *work,
                       struct harness_writer *writer, bool *is_well) {
  char copy[HARNESS_COMMAND_BYTES], mount[HARNESS_COMMAND_BYTES], place[HARNESS_COMMAND_BYTES * 2];
  snprintf(copy, sizeof(copy), "%s/copy.img", work);
  snprintf(mount, sizeof(mount), "%s/copy", work);
  const char *slash = strrchr(directory, '/');
  snprintf(place, sizeof(place), "%s/%s", mount, slash ? slash + 1 : directory);
  int status;
  kill(writer->pid, SIGSTOP);
  waitpid(writer->pid, &status, WUNTRACED);
  fcntl(writer->acks, F_SETFL, O_NONBLOCK);
  while (harness_next_ack(writer)) /* All that it has told of by now. */
    continue;
  fcntl(writer->acks, F_SETFL, 0);
  uint64_t acked = writer->acked;
  bool is_done = harness_run("cp '%s' '%s'", image, copy);
  kill(writer->pid, SIGCONT);
  if (!is_done || !harness_run("mount -o loop '%s' '%s'", copy, mount))
    return harness_fail("power", "the copy cannot be mounted"), false;
  uint64_t commits;
  *is_well = harness_check(place, acked, &commits);
  return harness_run("umount '%s'", mount);
}

int disks_power(const char *directory, const char *image, const char *work, uint64_t cycles,
                bool is_lying) {
  uint64_t lost = 0, acked = 0;
  if (is_lying)
    points_lie_about_syncs();
  struct harness_writer writer = harness_start(directory, 0, HARNESS_COUNT_MAX);
  for (uint64_t cycle = 0; cycle < cycles; cycle++) {
    for (uint64_t target = 1 + harness_chance(40); target > 0 && harness_next_ack(&writer);
         target--)
      continue;
    bool is_well;
    if (!lose_power(directory, image, work, &writer, &is_well))
      return 1;
    lost += !is_well;
    if (!is_well && !is_lying)
      return harness_fail("power", "see above");
    if (writer.acked > HARNESS_COMMITS_MAX) { /* Begin anew: the image is small. */
      kill(writer.pid, SIGKILL);
      harness_finish(&writer);
      harness_remove(directory);
      writer = harness_start(directory, acked, HARNESS_COUNT_MAX);
    }
  }
  kill(writer.pid, SIGKILL);
  harness_finish(&writer);
  printf("%" PRIu64 " power losses, %" PRIu64 " with a loss%s\n", cycles, lost,
         is_lying ? " (nothing was synced)" : "");
  return is_lying && lost == 0 ? harness_fail("power", "without syncs nothing was lost: no proof")
                               : 0;
}

int disks_full(const char *directory, const char *filler) {
  struct story story;
  struct cg_err err;
  if (story_open(&story, directory, points_fs(), UINT64_C(1) << 20, &err) != CG_OK)
    return harness_fail("open", err.message);
  enum cg_code code = story_write(&story, HARNESS_COUNT_MAX, NULL, NULL, &err);
  uint64_t commits = story.commit;
  if (code != CG_EFULL)
    return harness_fail("full", code == CG_OK ? "the disk did not become full" : err.message);
  printf("full after %" PRIu64 " commits: %s\n", commits, err.message);
  if (!story_check(&story, commits))
    return harness_fail("reads while full", story.fault);
  if (unlink(filler) != 0)
    return harness_fail(filler, strerror(errno));
  if (story_write(&story, 500, NULL, NULL, &err) != CG_OK)
    return harness_fail("appends after space is back", err.message);
  if (!story_check(&story, commits + 500) || story_close(&story, &err) != CG_OK)
    return harness_fail("after space is back", story.fault);
  uint64_t found;
  if (!harness_check(directory, commits + 500, &found) || found != commits + 500)
    return harness_fail("full", "after a restart");
  printf("went on without restart when space was back: %" PRIu64 " commits\n", found);
  return 0;
}
