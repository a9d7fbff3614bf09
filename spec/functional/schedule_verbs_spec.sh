#!/bin/bash
# schedule_verbs_spec.sh - `catga schedule`, the same over HTTP, and schedules of a program that is
# killed: each time runs once.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/schedule_verbs_spec.sh
source "$(dirname "$0")/program.sh"

kills=4

new_app
app main.lua <<'LUA'
local catga = require "catga"
local Report = catga.process "Report"
function Report:execute(input)
  if input.slow then self:sleep("1h") end
  return input.scheduled_time
end
local Tick = catga.process "Tick"
function Tick:execute(input) return self:note(input.scheduled_time) end
function Tick:note(time) assert(catga.events.append("Ticks", { { type = "Ticked", data = { at = time } } })) end
catga.schedule("nightly", "0 3 * * *", "Report", nil, { timezone = "Europe/Berlin" })
catga.schedule("second", "* * * * * *", "Tick", nil, { overlap = "allow", paused = true })
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga schedule`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" schedule "$@"
}

verb "list" 0 '^nightly +active +0 3 \* \* \* +Europe/Berlin +Report +20[0-9-]+ ' list
verb "list for programs" 0 '"name":"nightly".*"next":[0-9]+' list -o json
verb "list of a prefix" 0 '^second +paused' list --prefix s
verb "list, bounded" 1 'max must be a whole number' list --max 0
verb "show" 0 '^overlap +skip' show nightly
verb "show for programs" 0 '"upcoming":\[[0-9]+,[0-9]+,' show nightly -o json
verb "no such schedule" 3 'did you mean nightly' show nigtly
verb "no name" 2 'name one schedule' show
verb "create" 0 '^defined +while the app ran' create hourly '@hourly' Report '{"slow":true}' \
  --overlap queue --queue-max 2 --jitter 1m --catch-up 2h --note 'made by hand' --timezone Asia/Tokyo
verb "it is there" 0 '^note +made by hand' show hourly
verb "twice" 1 'there is a schedule hourly already' create hourly '@hourly' Report
verb "a wrong expression" 1 'minute "61"' create other '61 * * * *' Report
verb "a wrong time zone" 3 'time zone Europe/Berlim' create other '@daily' Report --timezone Europe/Berlim
verb "a time zone that is a path" 1 'not the name of a time zone' create other '@daily' Report \
  --timezone ../../etc/passwd
verb "an unknown process" 3 'no process is called Reprot; did you mean Report' create other '@daily' Reprot
verb "a wrong option" 1 'overlap is one of' create other '@daily' Report --overlap wait
verb "a wrong number" 2 'queue-max is a number' create other '@daily' Report --queue-max some
verb "input that is no JSON" 1 'body' create other '@daily' Report '{'
verb "too few arguments" 2 'give a name, a cron expression and a process' create other '@daily'
verb "pause" 0 '^$' pause nightly --note repair
verb "it is paused" 0 '^note +repair' show nightly
verb "trigger, though it is paused" 0 '^nightly/trigger-[0-9]+$' trigger nightly
verb "resume" 0 '^$' resume nightly
verb "it is active" 0 '^status +active' show nightly
verb "trigger for programs" 0 '^\{"id":"hourly/trigger-[0-9]+"\}$' trigger hourly -o json
verb "trigger obeys the overlap" 0 '^hourly/trigger' trigger hourly
verb "so one waits" 0 '^queued +1' show hourly
verb "or is told" 1 'has not ended' trigger hourly --overlap skip
verb "backfill" 0 '^times +31' backfill nightly 2026-01-01 2026-01-31T23:59:59Z
verb "backfill at once" 0 '"count":28' backfill nightly 2026-02-01 2026-02-28T23:00:00Z --overlap allow -o json
verb "backfill of the future" 1 'in the future' backfill nightly 2026-01-01 2999-01-01
verb "backfill without a span" 2 'from and to' backfill nightly 2026-01-01
ran() { "$program" schedule show nightly -o json | grep -q '"runs":60\b'; }
is "the backfills run" until_ok ran
check "a run has the time in its id" 0 '^status +completed' \
  "$program" process show nightly/2026-01-31T02:00:00Z
check "what it did is in its stream" 0 'ScheduleBackfillStarted' \
  "$program" stream read '$schedule-nightly' -o json
verb "delete" 0 '^$' delete hourly
verb "it is gone" 3 'no schedule is called hourly' show hourly
verb "delete one of the scripts" 1 'main.lua:[0-9]+.*pause it' delete nightly
verb "usage" 0 'schedule backfill NAME FROM TO' backfill --help

http "create" 201 '"defined":"while the app ran"' http://catga/schedules \
  -d '{"name":"web","cron":"0 0 1 1 *","process":"Report","timezone":"UTC"}'
http "its place" 201 '^Location: /schedules/web2' http://catga/schedules \
  -d '{"name":"web2","cron":"@daily","process":"Report"}'
http "an unknown field" 422 'there is no option speed' http://catga/schedules \
  -d '{"name":"web3","cron":"@daily","process":"Report","speed":1}'
http "list" 200 '"name":"web2"' 'http://catga/schedules?prefix=web&after=web'
http "show" 200 '"cron":"0 0 1 1 \*"' http://catga/schedules/web
http "pause" 200 '^true$' http://catga/schedules/web/pause -d '{"note":"later"}'
http "a wrong note" 422 'the note is text' http://catga/schedules/web/pause -d '{"note":5}'
http "trigger" 200 '"id":"web/trigger-' -X POST http://catga/schedules/web/trigger
http "backfill" 200 '"count":1' http://catga/schedules/web/backfill \
  -d '{"from":"2026-01-01","to":"2026-01-01"}'
http "resume" 200 '^true$' -X POST http://catga/schedules/web/resume
http "nothing else" 404 'pause, resume, trigger and backfill' -X POST http://catga/schedules/web/stop
http "delete" 200 '^true$' -X DELETE http://catga/schedules/web
http "it is gone" 404 'no schedule is called web' http://catga/schedules/web
http "methods" 405 'GET, POST' -X DELETE http://catga/schedules

# Killed again and again while there is a run each second.
"$program" schedule resume second
ticks() { # count
  [ "$("$program" schedule show second -o json | sed 's/.*"runs":\([0-9]*\).*/\1/')" -ge "$1" ]
}
for kill in $(seq "$kills"); do
  is "it has run before kill $kill" until_ok ticks "$kill"
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  start_app
done
is "it goes on" until_ok ticks $((kills + 1))
"$program" schedule pause second
has_ended() { "$program" schedule show second -o json | grep -q '"running":\[\]'; }
is "its last run has ended" until_ok has_ended
times() {
  "$program" stream read Ticks --max 10000 -o json | sed 's/.*"at":"\([^"]*\)".*/\1/' | sort
}
is "no time has run twice" test -z "$(times | uniq -d)"
seconds() { times | while read -r time; do date -d "$time" +%s; done; }
is "none was lost" cmp -s <(seconds) <(seq "$(seconds | head -n 1)" "$(seconds | tail -n 1)")
stop_app
finish
