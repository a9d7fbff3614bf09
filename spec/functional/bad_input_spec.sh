#!/bin/bash
# bad_input_spec.sh - whatever is wrong is told by name, place and mend, with the right exit code,
# and nothing that was stored is lost.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/bad_input_spec.sh
source "$(dirname "$0")/program.sh"

run_bad() { # name, pattern: the app in $tmp/app does not start
  check "$1" 1 "$2" "$program" run "$tmp/app" --data "$CATGA_DATA"
}

# The command line.
check "unknown verb" 2 'no verb "tst"; did you mean "test"' "$program" tst
check "a word that is near none" 2 'no verb "foo"; verbs: run' "$program" foo
check "unknown group verb" 2 'no verb "process lst"; did you mean "list"' "$program" process lst
check "unknown option" 2 'no option --kee; did you mean --key' "$program" send --kee x
check "missing value" 2 'option --data needs a value' "$program" run --data
check "no arguments" 2 'Usage: catga VERB' "$program"
check "help" 0 'Example: catga run' "$program" run --help
# The help of every verb is whole.
verbs_of() { "$program" "$@" --help | sed -n 's/^  \([a-z][a-z]*\)  *[a-z].*/\1/p'; }
is "there are verbs" test "$(verbs_of | wc -l)" -ge 11
for verb in $(verbs_of); do
  is "catga $verb has an example" grep -q '^Example: catga ' <("$program" "$verb" --help)
  for inner in $(case "$verb" in \
    process | projection | promise | schedule | stream | subscription | log | personal)
    verbs_of "$verb" ;; esac); do
    "$program" "$verb" "$inner" --help >"$tmp/help"
    for part in '^Usage: catga ' '\[--data D\]' '^  --data D ' '^Exit code: [01] ' '^Example: catga '; do
      is "catga $verb $inner --help has $part" grep -q "$part" "$tmp/help"
    done
    is "catga $verb $inner --help tells of -o" test \
      "$(grep -c '^  -o json' "$tmp/help")" = "$(grep -c '\[-o json\]' "$tmp/help")"
  done
done
check "help on a verb" 0 'Usage: catga process start NAME' "$program" help process start
check "a group without a verb" 2 'process needs a verb: start, list, show.* \(catga process --help\)' \
  "$program" process
check "an empty name" 2 'the name is empty' "$program" publish ''
check "an empty stream" 2 'the name is empty' "$program" stream read ''
check "an empty process" 2 'the name is empty' "$program" process show ''
check "version" 0 '^catga [0-9]+\.[0-9]+\.[0-9]+$' "$program" --version
check "nothing runs there" 3 'nothing runs on data directory' "$program" send Hello
check "missing app directory" 1 'missing is no directory' "$program" run "$tmp/missing"
check "no log to verify" 3 'there is no log in' "$program" log verify
check "no specs" 3 'no file called \*_spec.lua' "$program" test "$tmp"

# Scripts that do not load.
new_app
app main.lua <<<'local catga = require "catga"
catga.command("Hello", function(c) return c end)
catga.command("Hello", function(c) return c end)'
run_bad "two handlers" 'main.lua:3: command Hello has a handler already, at .*main.lua:2'
app main.lua <<<'local x = = 1'
run_bad "syntax error" "main.lua:1: unexpected symbol"
app main.lua <<<'while true do end'
app catga.lua <<<'return { handler_timeout = "100ms" }'
run_bad "a script that does not end while it loads" 'ran longer than handler_timeout \(100 ms\)'
rm "$tmp/app/catga.lua"
app main.lua <<<'local catga = require "catga"
catga.sleep("1s")'
run_bad "waiting while loading" 'main.lua:2: catga.sleep can only be called while the app runs'
printf '\033LJ\002\n' >"$tmp/app/main.lua"
run_bad "bytecode" 'main.lua is compiled bytecode'
app main.lua <<<'return 1'
app catga.lua <<<'return { handler_timout = "1s" }'
run_bad "unknown setting" 'no setting handler_timout; did you mean handler_timeout'
app catga.lua <<<'return { handler_timeout = 5 }'
run_bad "setting without a unit" 'catga.lua: handler_timeout .*unit'
app catga.lua <<<'return {'
run_bad "broken settings" 'catga.lua:'
rm "$tmp/app/catga.lua"
app main.lua <<<'local catga = require "catga"
local P = catga.process "P"
function P:execute() end
function P:compensate_nothing() end'
run_bad "an undo without its step" 'compensate_nothing'

# Data directories.
new_app
app main.lua <<<'local catga = require "catga"
catga.command { name = "Hello", input = { name = "string" },
  handle = function(c) return "hello " .. c.name end }
catga.command("Loop", function() while true do end end)
catga.command("Eat", function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end end)
catga.command("Raise", function() error("oh no") end)
catga.command("Odd", function() return { f = print } end)
catga.command("Note", function(c) catga.events.append("Notes", { { type = "Noted", data = c } })
  return true end)
local Long = catga.process "Long"
function Long:execute() return self:fill() end
function Long:fill()
  local data = { text = ("x"):rep(90000) }
  catga.events.append("Long", { { type = "Noted", data = data } })
  return data
end'
app catga.lua <<<'return { handler_timeout = "100ms", memory_max = "64MiB", message_size_max = "96KiB" }'
check "data is below a missing directory" 1 'missing/data' \
  "$program" run "$tmp/app" --data "$tmp/missing/data"
touch "$tmp/file"
check "data is a file" 1 "$tmp/file" "$program" run "$tmp/app" --data "$tmp/file"
if [ "$(id -u)" -ne 0 ]; then
  mkdir -p "$tmp/locked" && chmod 500 "$tmp/locked"
  check "data cannot be written" 1 "$tmp/locked" "$program" run "$tmp/app" --data "$tmp/locked/d"
elif command -v setpriv >/dev/null; then
  mkdir -p "$tmp/locked" && chmod 500 "$tmp/locked" && chmod 755 "$tmp"
  check "data cannot be written" 1 "$tmp/locked" setpriv --reuid=65534 --clear-groups \
    "$program" run "$tmp/app" --data "$tmp/locked/d"
fi

start_app
check "data is in use" 1 'in use|open in another' "$program" run "$tmp/app" --data "$CATGA_DATA"
check "a log in use is not verified" 1 'open in another process' "$program" log verify

# Messages.
check "good" 0 '^"hello you"$' "$program" send Hello '{"name":"you"}'
check "unknown command" 3 'unknown_command: no command is called Helo; did you mean Hello' \
  "$program" send Helo
check "a command is no query" 3 'no query is called Hello \(it is a command\)' \
  "$program" ask Hello
check "unknown process" 3 'unknown_process' "$program" process start Nothing
check "wrong JSON" 1 'invalid: the body: .*line 1, column' "$program" send Hello '{"name":'
check "duplicate key" 1 'invalid: the body' "$program" send Hello '{"name":"a","name":"b"}'
check "against the schema" 1 'validation: Hello: name must be a string, got number' \
  "$program" send Hello '{"name":1}'
check "missing field" 1 'validation: Hello: name is missing' "$program" send Hello
check "a handler that raises" 1 'error: .*main.lua:6: oh no' "$program" send Raise
check "a handler that does not end" 1 'ran longer than handler_timeout \(100 ms\)' \
  "$program" send Loop
check "a handler that takes all memory" 1 'memory|handler_timeout' "$program" send Eat
check "an answer that is no data" 1 'function cannot be stored' "$program" send Odd
check "no such process" 3 'there is no process x' "$program" process show x
check "no such stream" 3 'there is no stream x' "$program" stream read x
check "a wrong status" 1 'no process status complete; did you mean completed' \
  "$program" process list --status complete
check "a wrong number" 1 'max must be a whole number' "$program" process list --max none
deep() {
  head -c 60000 /dev/zero | tr '\0' '[' | "$program" send Note -
}
check_deep() {
  local text
  text=$(deep 2>&1)
  [ $? -eq 1 ] && [[ "$text" == *"nested deeper than"* ]]
}
is "60,000 levels of JSON" check_deep
large() {
  local text
  text=$(head -c 100000 /dev/zero | tr '\0' ' ' | "$program" send Note - 2>&1)
  [ $? -eq 1 ] && [[ "$text" == *"limit: body too large"* ]]
}
is "a message over message_size_max" large
check "a long result is whole" 0 'x"}$' "$program" process start Long '{"id":"long"}' --wait
check "a long cell is cut and says so" 0 'xxx\.\.\.$' "$program" stream read Long
check "still serving" 0 '^"hello you"$' "$program" send Hello '{"name":"you"}'
check "still storing" 0 '^true$' "$program" send Note '{"n":1}'
stop_app
check "the log is whole" 0 'no fault' "$program" log verify
start_app
check "nothing was lost" 0 '"n":1' "$program" stream read Notes -o json
kill -KILL "$pid"
wait "$pid" 2>/dev/null
pid=""
start_app
check "a stale socket is replaced" 0 '^"hello you"$' "$program" send Hello '{"name":"you"}'
stop_app

# 100,000 levels, where the size is no matter.
app catga.lua <<<'return { message_size_max = "1MiB" }'
start_app
hundred_thousand() {
  local text
  text=$(head -c 100000 /dev/zero | tr '\0' '[' | "$program" send Note - 2>&1)
  [ $? -eq 1 ] && [[ "$text" == *"nested deeper than"* ]]
}
is "100,000 levels of JSON" hundred_thousand
objects() {
  local text
  text=$(for _ in $(seq 100000); do printf '{"a":'; done | "$program" send Note - 2>&1)
  [ $? -eq 1 ] && [[ "$text" == *"nested deeper than"* ]]
}
is "100,000 levels of objects" objects
stop_app
finish
