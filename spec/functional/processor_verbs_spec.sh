#!/bin/bash
# processor_verbs_spec.sh - `catga processor`, and a stream of a program that is killed: its windows
# go on, and what its sinks append is there exactly once.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/processor_verbs_spec.sh
source "$(dirname "$0")/program.sh"

kills=4
events_each=300

new_app
app main.lua <<'LUA'
local catga = require "catga"
catga.command("Make", function(cmd)
  for n = cmd.first, cmd.last do
    assert(catga.events.append("Numbers", { { type = "Made", data = { n = n } } }))
  end
end)
catga.query("Count", function()
  local windows, sum = 0, 0
  for _, event in ipairs(catga.events.read("Windows", { max = 100000 })) do
    windows, sum = windows + 1, sum + event.data.count
  end
  return { windows = windows, sum = sum }
end)
catga.stream("Made", { durable = "windows", event_time = "n", batch = 7, checkpoint_events = 7 })
  :tumbling("10ms"):reduce(function(count) return count + 1 end, 0)
  :select(function(count, _, window) return { count = count, start = window.start } end)
  :to { append = "Windows", type = "Window" }
catga.stream("Made", { name = "live" }):where(function(e) return e.n == 2 end)
  :each(function() error("not two") end)
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga processor`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" processor "$@"
}

make_events() { # first last
  "$program" send Make "{\"first\":$1,\"last\":$2}" >/dev/null
}

caught_up() {
  "$program" processor show windows -o json | grep -q '"lag":0[,}]'
}

live_failed() {
  "$program" processor show live -o json | grep -q '"status":"failed"'
}

make_events 1 25
is "the windows have caught up" until_ok caught_up
is "the live one has stopped" until_ok live_failed
verb "list" 0 '^windows +running +[0-9]+ +0 +25 +1' list
verb "list for programs" 0 '"name":"live"' list -o json
verb "show" 0 '^open windows +1' show windows
verb "the watermark is a time" 0 '^watermark +1970-01-01' show windows
verb "an error has its place" 0 'main.lua:[0-9]+: not two' show live
verb "no such stream" 3 'did you mean windows' show window
verb "no name" 2 'name one stream' show
verb "pause" 0 '^$' pause windows
verb "it is paused" 0 '^status +paused' show windows
verb "resume" 0 '^$' resume windows
verb "reset" 2 'number, start or end' reset windows middle
verb "a live one has no place" 1 'not durable' reset live start
verb "usage" 0 'processor reset NAME' reset --help
verb "reset to the end" 0 '^$' reset windows end

first=26
for ((kill = 1; kill <= kills; kill++)); do
  last=$((first + events_each - 1))
  make_events "$first" "$last"
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  start_app
  first=$((last + 1))
done
is "the windows have caught up again" until_ok caught_up
made=$((first - 1))
# Before the reset 1 to 19 were counted; from 26 on all but those of the window that is still open.
windows=$((made / 10))
open=$((made % 10 + 1))
sum=$((19 + made - 25 - open))
check "every number is in one window" 0 "\"sum\":$sum,\"windows\":$windows" \
  "$program" ask Count '{}'
stop_app
finish
