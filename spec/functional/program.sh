# program.sh - what the shell specs share; sourced, not run.
#
# Gives: $program, a temporary directory $tmp that goes away, app FILE (writes stdin to the file of
# the app in $tmp/app), start_app [OPTIONS] (runs it with its data in $tmp/data, its output in
# $tmp/run.log, its process in $pid, and waits until it serves), stop_app, wait_line TEXT (waits for
# a line of its output), check NAME CODE PATTERN COMMAND... (runs it; its exit code and output must
# fit), http NAME STATUS PATTERN CURL_ARGUMENTS... (one request), is NAME COMMAND... (must succeed),
# and finish, which prints the summary line.
set -uo pipefail

program="${CATGA_PROGRAM:?CATGA_PROGRAM names the program}"
tmp="$(mktemp -d)"
export CATGA_DATA="$tmp/data"
pid=""
passed=0
failed=0
seconds_max=20 # For everything that is waited for.

clean_up() {
  if [ -n "$pid" ]; then
    kill -KILL "$pid" 2>/dev/null
  fi
  chmod -R u+w "$tmp" 2>/dev/null
  rm -rf "$tmp"
}
trap clean_up EXIT

pass() {
  passed=$((passed + 1))
}

fail() {
  echo "FAILED  $1"
  failed=$((failed + 1))
}

app() {
  mkdir -p "$(dirname "$tmp/app/$1")"
  cat >"$tmp/app/$1"
}

new_app() {
  rm -rf "$tmp/app" "$tmp/data"
  mkdir -p "$tmp/app"
}

# until_ok COMMAND...: waits until it succeeds; asks 50 times a second.
until_ok() {
  local tries=$((seconds_max * 50))
  while [ "$tries" -gt 0 ]; do
    if "$@"; then return 0; fi
    read -r -t 0.02 <> <(:) # A pause without a process; the bound is the number of tries.
    tries=$((tries - 1))
  done
  return 1
}

has_line() {
  grep -q -s -- "$1" "$tmp/run.log"
}

wait_line() {
  until_ok has_line "$1" || fail "no line \"$1\" in the output: $(tail -n 5 "$tmp/run.log")"
}

# It prints its socket when it serves.
is_up() {
  has_line '^  socket' || ended
}

start_app() {
  rm -f "$tmp/run.log"
  "$program" run "$tmp/app" --data "$CATGA_DATA" "$@" >"$tmp/run.log" 2>&1 &
  pid=$!
  until_ok is_up && ! ended || fail "the app does not serve: $(tail -n 5 "$tmp/run.log")"
}

ended() {
  ! kill -0 "$pid" 2>/dev/null
}

# wait_end NAME CODE: the program ends by itself with this exit code.
wait_end() {
  if ! until_ok ended; then
    fail "$1: it does not end"
    return
  fi
  wait "$pid"
  local code=$?
  pid=""
  if [ "$code" -eq "$2" ]; then pass; else
    fail "$1: exit code $code, not $2; its output ends: $(tail -n 5 "$tmp/run.log")"
  fi
}

stop_app() {
  kill -TERM "$pid"
  wait_end "${1:-graceful stop}" 0
}

# check NAME CODE PATTERN COMMAND...: exit code and an extended regular expression in the output.
check() {
  local name=$1 code=$2 pattern=$3 got text
  shift 3
  text=$(timeout "$seconds_max" "$@" 2>&1 </dev/null)
  got=$?
  if [ "$got" -ne "$code" ]; then
    fail "$name: exit code $got, not $code; output: $text"
  elif ! grep -q -E -- "$pattern" <<<"$text"; then
    fail "$name: no /$pattern/ in: $text"
  else
    pass
  fi
}

# http NAME STATUS PATTERN CURL_ARGUMENTS...: status, headers and body of one request.
http() {
  local name=$1 status=$2 pattern=$3 text
  shift 3
  text=$(curl -s -i -m "$seconds_max" --unix-socket "$CATGA_DATA/catga.sock" "$@" | tr -d '\r')
  if ! grep -q -E "^HTTP/1.1 $status " <<<"$text"; then
    fail "$name: not status $status: $text"
  elif ! grep -q -E -- "$pattern" <<<"$text"; then
    fail "$name: no /$pattern/ in: $text"
  else
    pass
  fi
}

is() {
  local name=$1
  shift
  if "$@"; then pass; else fail "$name"; fi
}

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
