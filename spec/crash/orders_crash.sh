#!/bin/bash
# orders_crash.sh - SIGKILLs the orders example again and again, and checks that nothing shows.
#
# The program runs spec/crash/app, which is examples/orders and a few files over it, and is killed
# at seeded commit numbers that are spread over the whole run (CATGA_FAULT, src/base/fs_fault.h):
# within a commit, or right after the sync that made it durable. After the last kill it runs to the
# end, and check.lua compares what the sink was told, the journals and the read model.
#
# Usage: CATGA_PROGRAM=build/catga [CATGA_KILLS=50] [CATGA_ORDERS_COUNT=20000 |
#   CATGA_ORDERS=f.csv] [CATGA_SEED=1] [CATGA_SEEDS=n] [CATGA_KEEP=dir] spec/crash/orders_crash.sh
# CATGA_SEEDS (make torture) runs more seeds: one for every 5,000 asked, at most 10.
# The same seed gives the same kill numbers; CATGA_KEEP keeps what a run has left in that directory.
set -uo pipefail
cd "$(dirname "$0")/../.."

program="${CATGA_PROGRAM:?CATGA_PROGRAM names the program}"
kills="${CATGA_KILLS:-50}"
orders="${CATGA_ORDERS_COUNT:-20000}"
first_seed="${CATGA_SEED:-1}"
rounds=$((${CATGA_SEEDS:-1} / 5000))
rounds=$((rounds < 1 ? 1 : rounds > 10 ? 10 : rounds))
life_seconds_max=120
commits_per_order=6
tmp="$(mktemp -d)"
sink_pid=""
passed=0
failed=0

clean_up() {
  if [ -n "$sink_pid" ]; then
    kill "$sink_pid" 2>/dev/null
  fi
  rm -rf "$tmp"
}
trap clean_up EXIT

fail() {
  echo "FAILED  $1"
  failed=$((failed + 1))
}

# The numbers of commits after which the kills come, each counted from the start of that run of
# the program; every other one with the fault's ":after".
kill_points() { # seed
  luajit - "$1" "$kills" "$((orders * commits_per_order))" <<'LUA'
local seed, kills, commits = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
math.randomseed(seed)
local points, before = {}, 0
-- The first commits only start processes, and with the last of them all processes have ended.
local first, last = math.min(2000, math.floor(commits / 5)), math.floor(commits * 0.97)
for i = 1, kills do points[i] = math.random(first, last) end
table.sort(points)
for _, point in ipairs(points) do
  print(math.max(1, point - before) .. (math.random(2) == 1 and ":after" or ""))
  before = point
end
LUA
}

start_sink() { # dir
  mkfifo "$1/calls"
  "$tmp/sink" "$1/calls" "$1/sink" >"$1/sink.out" &
  sink_pid=$!
}

run_program() { # dir, with the environment of the caller
  CATGA_SINK="$1/calls" CATGA_ORDERS_COUNT="$orders" timeout -k 5 "$life_seconds_max" \
    "$program" run "$tmp/app" --data "$1/data" >>"$1/out" 2>&1
}

run_round() { # seed
  local dir="${CATGA_KEEP:-$tmp}/seed-$1" life=0 point code
  rm -rf "$dir"
  mkdir -p "$dir"
  echo "seed $1: $kills kills over $orders orders (CATGA_SEED=$1 CATGA_KILLS=$kills CATGA_ORDERS_COUNT=$orders)"
  start_sink "$dir"
  while read -r point; do
    life=$((life + 1))
    echo "life $life $point" >"$dir/calls"
    CATGA_FAULT="kill:commit:$point" run_program "$dir" 2>/dev/null # The shell tells of each kill.
    code=$?
    if [ "$code" -ne 137 ]; then
      fail "run $life was to be killed at commit $point and ended with code $code"
      tail -n 20 "$dir/out"
    fi
  done < <(kill_points "$1")
  echo "life $((life + 1))" >"$dir/calls"
  CATGA_DUMP="$dir/dump" run_program "$dir"
  code=$?
  echo quit >"$dir/calls"
  wait "$sink_pid"
  sink_pid=""
  cat "$dir/sink.out"
  if [ "$code" -ne 0 ]; then
    fail "the last run ended with code $code"
    tail -n 20 "$dir/out"
    return
  fi
  luajit spec/crash/check.lua "$dir/sink" "$dir/dump" "$kills" >"$dir/check"
  cat "$dir/check"
  if [[ "$(tail -n 1 "$dir/check")" =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    fail "the checker did not come to its end"
  fi
}

unset CATGA_ORDERS_FILE
if [ -n "${CATGA_ORDERS:-}" ]; then
  CATGA_ORDERS_FILE="$(realpath "$CATGA_ORDERS")"
  export CATGA_ORDERS_FILE
  orders=$(($(wc -l <"$CATGA_ORDERS_FILE") - 1))
fi
"${CC:-cc}" -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -o "$tmp/sink" spec/crash/sink.c || exit 1
cp -r examples/orders "$tmp/app" && rm -rf "$tmp/app/spec" && cp -r spec/crash/app/. "$tmp/app" || exit 1
for ((round = 0; round < rounds; round++)); do
  run_round $((first_seed + round))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
