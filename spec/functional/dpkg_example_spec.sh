#!/bin/bash
# dpkg_example_spec.sh - examples/dpkg as a user runs it: to the end of a log, then live while a log
# grows and is rotated, killed in between; its counts are those of awk.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/dpkg_example_spec.sh
source "$(dirname "$0")/program.sh"

example="$(dirname "$0")/../../examples/dpkg"
log="$tmp/dpkg.log"

# install NAME VERSION: the lines of one package.
install() {
  local now
  now="2026-01-02 10:0$((minute / 10 % 6)):$((minute % 10 + 10))"
  minute=$((minute + 1))
  printf '%s startup archives unpack\n' "$now"
  printf '%s install %s:amd64 <none> %s\n' "$now" "$1" "$2"
  printf '%s status half-installed %s:amd64 %s\n' "$now" "$1" "$2"
  printf '%s status unpacked %s:amd64 %s\n' "$now" "$1" "$2"
  printf '%s configure %s:amd64 %s <none>\n' "$now" "$1" "$2"
  printf '%s status half-configured %s:amd64 %s\n' "$now" "$1" "$2"
  printf '%s status installed %s:amd64 %s\n' "$now" "$1" "$2"
}
minute=0

lines() { cat "$log.1" "$log" 2>/dev/null | awk 'END { print NR }'; }
installed() { cat "$log.1" "$log" 2>/dev/null | awk '$4 == "installed" { n++ } END { print n + 0 }'; }

# counts FIELD VALUE: does the running app count so many?
counts() {
  "$program" ask Counts '{}' -o json 2>/dev/null | grep -q "\"$1\":$2[,}]"
}

# To the end of a log, then the program ends by itself; a second run finds nothing new.
for n in $(seq 40); do install "lib$n" "1.$n"; done >"$log"
once=("$program" run "$example" --data "$tmp/once" --config "path=$log" --config once=true)
check "runs to the end of the log" 0 "lines $(lines)" "${once[@]}"
check "and counts what is installed" 0 "flows installed $(installed)" "${once[@]}"
check "reads no line twice" 0 "read 0 lines of $log, $(lines) before" "${once[@]}"

# Live: lines come, the program is killed, the log is rotated, lines come, it starts again.
new_app
cp -r "$example/." "$tmp/app/"
start_app --config path="$log"
is "has read the log" until_ok counts lines "$(lines)"
install live 1 >>"$log"
is "follows the log" until_ok counts lines "$(lines)"
is "a flow ends when its package is installed" until_ok counts "flows installed" "$(installed)"
for n in $(seq 30); do install "late$n" "2.$n" >>"$log"; done &
writer=$!
kill -KILL "$pid"
wait "$pid" 2>/dev/null
wait "$writer"
mv "$log" "$log.1"
for n in $(seq 20); do install "new$n" "3.$n"; done >"$log"
start_app --config path="$log"
is "has each line once after a kill and a rotation" until_ok counts lines "$(lines)"
is "has one flow a package" until_ok counts "flows installed" "$(installed)"
check "has one flow of a package" 0 '"status":"completed"' \
  "$program" process show late7:amd64#1 -o json
check "says the slowest" 0 'amd64' "$program" ask Slowest '{}' -o json
stop_app
finish
