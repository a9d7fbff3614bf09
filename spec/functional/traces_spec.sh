#!/bin/bash
# traces_spec.sh - LuaJIT gives up no trace on the hot paths of the Lua half.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/traces_spec.sh
source "$(dirname "$0")/program.sh"

# Where traces begin is chance, and now and then one begins in so odd a place that it is given up a
# few times, for good. What cannot be compiled is met in every run: so the best of some runs counts.
runs=4

# least PATH: how many traces were given up in the best run, and where.
least() {
  local best="" count
  for ((run = 0; run < runs && ${best:-1} > 0; run++)); do
    rm -rf "$tmp/data"
    BENCH_TRACES="$1" BENCH_TRACES_SHOW=1 timeout 60 "$program" run \
      "$(dirname "$0")/../../bench/apps/traces" --no-watch --data "$tmp/data" \
      </dev/null >"$tmp/out" 2>&1
    count=$(sed -n "s/^traces given up, $1: \([0-9]*\) count$/\1/p" "$tmp/out")
    if [ -n "$count" ] && [ "$count" -lt "${best:-1000000}" ]; then
      best=$count
      cp "$tmp/out" "$tmp/best"
    fi
  done
  echo "${best:-none}"
  cat "$tmp/best" 2>/dev/null
}

for path in outermost nested behaviors full policies events; do
  least "$path" >"$tmp/least"
  check "$path" 0 "^0$" cat "$tmp/least"
done
finish
