#!/bin/bash
# lifecycle_spec.sh - how the program begins and ends: signals, exit codes, a log that fails.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/lifecycle_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<<'local catga = require "catga"
catga.command("Note", function(c) catga.events.append("Notes", { { type = "Noted", data = c } })
  return true end)
catga.command("Slow", function() catga.say("slow begins") catga.sleep("300ms") return "slow" end)
catga.command("Quit", function(c) catga.exit(c.code) return true end)
local Long = catga.process "Long"
function Long:execute(input) return self:wait_long(input) end
function Long:wait_long() catga.say("step begins") catga.sleep("60s") return true end
Long.settings = { wait_long = { timeout = "120s" } }'

# What it prints.
start_app
is "the version is printed" has_line '^catga [0-9]'
is "the durability is printed" has_line '^  durability  fsync$'
is "the data directory is printed" has_line "^  data        $CATGA_DATA$"
is "the socket is its owner's only" test "$(stat -c %a "$CATGA_DATA/catga.sock")" = 600

# A graceful stop answers what runs, and removes its socket.
"$program" send Slow >"$tmp/slow" 2>&1 &
slow=$!
wait_line "slow begins"
stop_app "stop with a handler under way"
wait "$slow"
is "a handler under way is answered" test "$(cat "$tmp/slow")" = '"slow"'
is "the socket is removed" test ! -e "$CATGA_DATA/catga.sock"

# SIGINT is the same.
start_app
kill -INT "$pid"
wait_end "SIGINT" 0

# The script ends the program with its code.
start_app
check "a command that ends the program is answered" 0 '^true$' "$program" send Quit '{"code":7}'
wait_end "catga.exit(7)" 7

# A step that takes longer than stop_timeout does not hold the program up.
app catga.lua <<<'return { stop_timeout = "200ms" }'
start_app
check "a process starts" 0 '^long$' "$program" process start Long '{"id":"long"}'
wait_line "step begins"
stop_app "stop with a step under way"
rm "$tmp/app/catga.lua"

# A second signal ends at once.
start_app
wait_line "step begins"
kill -TERM "$pid"
wait_line "again to end at once"
kill -TERM "$pid"
wait_end "a second signal" 143

# main that fails ends the program.
app zz_main.lua <<<'require "catga".main(function() error("no way") end)'
check "main fails" 1 'catga.main failed: .*no way' "$program" run "$tmp/app" --data "$tmp/other"
rm "$tmp/app/zz_main.lua"

# A log that fails: nothing is acknowledged any more, the program ends by itself within a second.
rm -rf "$CATGA_DATA"
export CATGA_FAULT=io_error:datasync:6
start_app
unset CATGA_FAULT
acknowledged=0
while "$program" send Note "{\"n\":$acknowledged}" >>"$tmp/acks" 2>&1; do
  acknowledged=$((acknowledged + 1))
  if [ "$acknowledged" -gt 50 ]; then break; fi
done
failed_at=$(date +%s%N)
wait_end "a log that fails" 1
took_ms=$((($(date +%s%N) - failed_at) / 1000000))
is "it ends within a second, not $took_ms ms" test "$took_ms" -lt 1000
is "it says why" has_line "the event log stopped"
is "some were acknowledged, and not all" test "$acknowledged" -gt 0 -a "$acknowledged" -le 50
check "the log is whole" 0 'no fault' "$program" log verify
start_app
stored=$("$program" stream read Notes -o json | wc -l)
is "what was acknowledged is there ($stored of $acknowledged)" test "$stored" -ge "$acknowledged"
stop_app
finish
