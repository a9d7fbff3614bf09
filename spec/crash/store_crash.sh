#!/bin/bash
# store_crash.sh - ends a program that writes a store in every way known, and checks what is left:
# nothing that was acknowledged is lost, nothing is in another order, nothing is there that was not
# written. spec/crash/store/ is the program; its content follows from the number of each commit.
#
#   kill     SIGKILL at random moments under load
#   points   SIGKILL at every named file call (spec/crash/store/points.h)
#   errors   EIO, ENOSPC, EINTR and short counts at every named call, once or (long: and) for ever
#   memory   the k-th allocation fails
#   strace   SIGKILL at the system calls that touch files, for each thread of the program
#   power    a copy of a mounted disk's image is what a loss of power leaves; and the control:
#            without syncs something must be lost
#   full     the disk fills, reads go on, space comes back, appends go on without a restart
#
# Usage: [BUILD=build] [CATGA_SEEDS=n] spec/crash/store_crash.sh
# CATGA_SEEDS (make torture) runs more: every system call instead of each fourth of a kind, 3,000
# SIGKILLs, 50 at each point, all errors at each point, 500 losses of power instead of 40. Power and
# full need root and loop devices; where there are none they are skipped, and that is said.
# Last line: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

build="${BUILD:-build}"
program="$(realpath -m "$build/test/store_crash")"
is_torture=$((${CATGA_SEEDS:-0} > 0))
work="$(mktemp -d)"
fast="$work" # Where kill, points, errors and memory work: a kill leaves alone what is in memory, too.
if [ "$is_torture" = 0 ] && [ "$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 65536 ]
then
  fast="$(mktemp -d /dev/shm/store_crash.XXXXXX)"
fi
passed=0
failed=0
commits=$((is_torture ? 600 : 250)) # Of a run that is killed at a system call.
calls=%file,%desc
traced=openat,close,pread64,pwrite64,fdatasync,fsync,rename,unlink,mkdir,fallocate,ftruncate,flock
traced=$traced,getdents64,mmap,munmap

# An error that is told ends the program with 1; what a sanitizer finds must not look like that.
export ASAN_OPTIONS="exitcode=99:${ASAN_OPTIONS:-}" UBSAN_OPTIONS="exitcode=99:${UBSAN_OPTIONS:-}"

clean_up() {
  umount "$work/copy" "$work/disk" 2>/dev/null
  rm -rf "$work" "$fast"
}
trap clean_up EXIT

result() { # what, 0 for well
  if [ "$2" -eq 0 ]; then
    passed=$((passed + 1))
    echo "ok      $1"
  else
    failed=$((failed + 1))
    echo "FAILED  $1"
  fi
}

pick() { # short long
  if [ "$is_torture" = 1 ]; then echo "$2"; else echo "$1"; fi
}

# --- strace ---

# trace THREAD WHAT...: a run of 100 commits with one thread traced; acknowledgements in $work/acks.
# The first thread is the one that strace starts; others wait for it at their first file call.
trace() {
  local thread="$1" tid
  shift
  rm -rf "$work/data"
  if [ "$thread" = 1 ]; then
    strace -o "$work/trace" "$@" "$program" write "$work/data" 0 "$commits" >"$work/acks" 2>"$work/said"
    return
  fi
  {
    STORE_CRASH_GATE="$thread:$work/gate" "$program" write "$work/data" 0 "$commits" \
      >"$work/acks" 2>"$work/said" 9>&-
    echo none >&9 # The run has ended; told of it when the thread has made no call.
  } &
  read -r tid <&9
  if [ "$tid" != none ]; then
    strace -p "$tid" -o "$work/trace" "$@" 2>/dev/null
    read -r tid <&9
  fi
  wait
}

last_ack() {
  local acks
  acks=$(($(stat -c %s "$work/acks") / 8))
  if [ "$acks" -eq 0 ]; then
    echo 0
  else
    od -A n -t u8 -j $(((acks - 1) * 8)) -N 8 "$work/acks" | tr -d ' '
  fi
}

# Kills one thread's call after the other; prints how many.
strike_thread() { # thread step
  local call count k n=0
  trace "$1" -e "trace=$calls"
  while read -r call count; do
    case ",$traced," in *",$call,"*) ;; *) continue ;; esac
    for ((k = 1; k <= count; k += $2)); do
      trace "$1" -e "trace=$call" -e "inject=$call:signal=KILL:when=$k"
      if ! "$program" check "$work/data" "$(last_ack)" >"$work/checked" 2>&1; then
        echo "thread $1, $call number $k:" >&2
        cat "$work/checked" >&2
        return 1
      fi
      n=$((n + 1))
    done
  done < <(sed -n 's/^\([a-z0-9]*\)(.*/\1/p' "$work/trace" | sort | uniq -c | awk '{ print $2, $1 }')
  echo "$n"
}

strike_threads() {
  local thread n step threads="1 2 3"
  mkfifo "$work/gate"
  exec 9<>"$work/gate" # Open at both ends, so that opening never waits.
  for thread in $threads; do
    step=$(pick 4 1)
    if [ "$thread" -eq 3 ]; then # It makes few calls.
      step=1
      commits=600
    fi
    n=$(strike_thread "$thread" "$step")
    result "killed at $n system calls of thread $thread" $?
  done
}

# --- a disk of its own ---

make_disk() { # MiB; mounts it on $work/disk
  umount "$work/copy" "$work/disk" 2>/dev/null
  mkdir -p "$work/disk" "$work/copy"
  rm -f "$work/disk.img"
  truncate -s "$1M" "$work/disk.img" && mkfs.ext4 -q -F "$work/disk.img" &&
    mount -o loop,commit=300 "$work/disk.img" "$work/disk" 2>"$work/said"
}

disks() {
  if [ "$(id -u)" -ne 0 ] || ! make_disk 24; then
    echo "skipped: power and full need root and loop devices ($(cat "$work/said" 2>/dev/null))"
    return
  fi
  "$program" power "$work/disk/data" "$work/disk.img" "$work" "$(pick 40 500)" 1
  result "power" $?
  make_disk 24
  "$program" power "$work/disk/data" "$work/disk.img" "$work" 3 1 lie 2>/dev/null
  result "power, without syncs" $?
  for ((i = 0; i < $(pick 2 100); i++)); do
    make_disk 16
    head -c $((8 * 1024 * 1024 + i * 4096 * 7)) /dev/zero >"$work/disk/filler"
    "$program" full "$work/disk/data" "$work/disk/filler" || break
  done
  result "full" $((i < $(pick 2 100)))
}

if [ ! -x "$program" ]; then
  echo "$program is missing: build it by make test-programs"
  exit 1
fi
mkdir "$fast/kill" "$fast/points" "$fast/errors" "$fast/memory"
"$program" kill "$fast/kill/data" "$(pick 200 3000)" 1
result "kill" $?
"$program" points "$fast/points/data" "$(pick 1 50)" 1
result "points" $?
"$program" errors "$fast/errors/data" "$(pick 1 20)" 1 2>"$work/said"
code=$?
[ $code -eq 0 ] || tail -n 20 "$work/said"
result "errors" $code
"$program" memory "$fast/memory/data" "$(pick 40 1000000)" 1 2>"$work/said"
code=$?
[ $code -eq 0 ] || tail -n 20 "$work/said"
result "memory" $code
strike_threads
disks
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
