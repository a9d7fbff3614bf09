#!/bin/bash
# reload_spec.sh - scripts change while messages flow: none fails, none is lost, and a script that
# does not load leaves the one before it serving.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/reload_spec.sh
source "$(dirname "$0")/program.sh"

senders=2
changes=5

handler() { # version
  # Under its final name at once, as editors do it.
  cat >"$tmp/app/.new" <<LUA
local catga = require "catga"
catga.command("Work", function(c)
  catga.events.append("Works", { { type = "Worked", data = { n = c.n, by = $1 } } })
  return $1
end)
LUA
  mv "$tmp/app/.new" "$tmp/app/main.lua"
}

# Sends until the file stop is there; a line for each answer.
send_all() { # sender
  local n=0
  until [ -e "$tmp/stop" ]; do
    "$program" send Work "{\"n\":\"$1-$n\"}" || echo "failed $n"
    n=$((n + 1))
  done >"$tmp/answers.$1" 2>&1
}

reloads() {
  [ "$(grep -c 'scripts reloaded' "$tmp/run.log")" -ge "$1" ]
}

answers_by() { # version
  cat "$tmp"/answers.* 2>/dev/null | grep -q -x "$1"
}

new_app
handler 1
start_app
for sender in $(seq "$senders"); do send_all "$sender" & done
is "version 1 answers" until_ok answers_by 1
for change in $(seq 2 "$changes"); do
  handler "$change"
  is "change $change is taken up" until_ok reloads $((change - 1))
  is "version $change answers" until_ok answers_by "$change"
done

# A broken script.
echo 'this is not Lua' >"$tmp/app/broken.lua"
wait_line "reload failed, the scripts before go on serving"
wait_line "broken.lua:1"
check "the script before it serves" 0 "^$changes\$" "$program" send Work '{"n":"after"}'
rm "$tmp/app/broken.lua"
handler 99
is "the mended scripts are taken up" until_ok answers_by 99

# Settings.
app catga.lua <<<'return { handler_timeout = "4s" }'
wait_line "catga.lua has changed; settings are read at the next start"
app catga.lua <<<'return { handler_timout = "4s" }'
wait_line "the settings before go on: .*no setting handler_timout"

touch "$tmp/stop"
for job in $(jobs -p); do
  [ "$job" = "$pid" ] || wait "$job"
done
sent=$(cat "$tmp"/answers.* | wc -l)
failures=$(grep -c -v -E '^[0-9]+$' <(cat "$tmp"/answers.*))
is "no message failed ($failures of $sent)" test "$failures" -eq 0
stored=$("$program" stream read Works --max 10000 -o json | wc -l)
is "none is lost or doubled ($stored of $((sent + 1)))" test "$stored" -eq $((sent + 1))
newest=$(cat "$tmp"/answers.1 | awk '$1 < last { bad = 1 } { last = $1 } END { print bad + 0 }')
is "a newer version never goes back" test "$newest" -eq 0
stop_app
finish
