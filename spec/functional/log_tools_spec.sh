#!/bin/bash
# log_tools_spec.sh - catga log verify, repair, stats, backup and restore, on logs that an app has
# written or is writing.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/log_tools_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<<'local catga = require "catga"
local loading = false
catga.command("Note", function(c)
  for i = 1, c.count do
    catga.events.append("Note-" .. (c.from + i), { { type = "Noted",
      data = { n = c.from + i, text = ("x"):rep(500) } } })
  end
  return true
end)
catga.command("Load", function(c) loading = c.on return true end)
local function load()
  local n = 0
  while true do
    catga.sleep("2ms")
    if loading then
      n = n + 1
      catga.events.append("Load-1", { { type = "Loaded", data = { n = n, text = ("y"):rep(900) } } })
    end
  end
end
catga.main(function() pcall(load) end) -- A stop ends the sleep with an error.
local seen = catga.projection "Seen"
function seen.on.Noted(event, model) model:put(tostring(event.n), event) end'
app catga.lua <<<'return { segment_size = "64KiB", message_size_max = "32KiB" }'

flip() { # FILE OFFSET: changes one byte
  printf '\x5a' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# Nothing there.
check "no log to verify" 3 'there is no log' "$program" log verify
check "no log to repair" 3 'there is no log' "$program" log repair --yes
check "help on repair" 0 'Example: catga log repair' "$program" log repair --help
check "a wrong option" 2 'did you mean --yes' "$program" log repair --yess

start_app
for from in 0 20 40 60 80 100 120 140 160 180 200 220 240 260 280 300 320 340 360 380; do
  check "events are written" 0 '^true$' "$program" send Note "{\"from\":$from,\"count\":20}"
done
check "verify needs a closed log" 1 'open in another process' "$program" log verify
check "repair needs a closed log" 1 'open in another process' "$program" log repair --yes
stop_app

# verify
check "a good log" 0 '^no fault in ' "$program" log verify
check "what was read" 0 '^[5-9] segments, [0-9]+ commits, [0-9]+ records, [0-9]+ bytes; positions 1' \
  "$program" log verify
check "as one document" 0 '"fault_count":0,"faults":\[\]\}$' "$program" log verify -o json
check "as one document, all of it" 0 '^\{"path":"[^"]*","segments":[5-9],"commits":[0-9]+,' \
  "$program" log verify -o json
check "the index is checked" 0 '^[1-9] tables of the index, [1-9][0-9]+ entries' \
  "$program" log verify
table=$(find "$CATGA_DATA/index" -name '*.idx' | sort | tail -n 1)
cp "$table" "$tmp/table"
flip "$table" 5000
check "a flipped bit in the index" 1 '^fault: index/table-' "$program" log verify
check "it says what to do" 1 'the index is derived' "$program" log verify
cp "$tmp/table" "$table"
check "good again" 0 '^no fault' "$program" log verify
check "a good log needs no repair" 0 'nothing to repair' "$program" log repair --yes
is "and nothing was put aside" test -z "$(find "$CATGA_DATA/log" -name 'aside-*')"

# stats
check "stats of a closed log" 0 '^records +[45][0-9][0-9]' "$program" log stats
check "its categories" 0 '^Note +400 +400 +[0-9]+' "$program" log stats
check "its types" 0 '^Noted +400 +[0-9]+' "$program" log stats
check "as one document" 0 '"categories":\[\{"category":"Note","streams":400,"records":400,' \
  "$program" log stats -o json
check "no log to count" 3 'there is no log' "$program" log stats --data "$tmp/none"

# A bit in the middle.
cp -r "$CATGA_DATA" "$tmp/good"
second="$CATGA_DATA/log/segment-0000000001.log"
flip "$second" 40000
check "a fault is named" 1 '^fault: segment-0000000001.log: offset [0-9]+: ' "$program" log verify
check "a fault as document" 1 '"fault_count":1' "$program" log verify -o json
cp "$second" "$tmp/damaged"
check "without anybody to ask" 2 'nothing was changed' "$program" log repair
check "it says what would be lost" 2 'Lost: positions [0-9]+ to [0-9]+' "$program" log repair
is "nothing was changed" cmp "$second" "$tmp/damaged"
check "a repair" 0 '^repaired; the next position is' "$program" log repair --yes
aside=$(echo "$CATGA_DATA"/log/aside-*)
is "the damaged segment is aside as it was" cmp "$aside/segment-0000000001.log" "$tmp/damaged"
is "a later segment is aside as it was" cmp "$aside/segment-0000000002.log" \
  "$tmp/good/log/segment-0000000002.log"
is "the read models are aside" test -e "$aside/models.sqlite" -a ! -e "$CATGA_DATA/models.sqlite"
is "it is written down" grep -q '^Damage: .*segment-0000000001.log' "$aside/README"
check "the log is good" 0 '^no fault in ' "$program" log verify
check "again: nothing to do" 0 'nothing to repair' "$program" log repair --yes
start_app
kept=$("$program" send Note '{"from":1000,"count":1}')
is "it takes events again" test "$kept" = true
check "what was before the damage is there" 0 '"n":60' "$program" stream read Note-60
stop_app

# What cannot be repaired.
rm -rf "$CATGA_DATA"
cp -r "$tmp/good" "$CATGA_DATA"
rm "$CATGA_DATA/log/segment-0000000000.log"
check "the first segment is missing" 1 'cannot be repaired' "$program" log repair --yes
is "nothing is touched then" test -z "$(find "$CATGA_DATA/log" -name 'aside-*')"

# A missing one in the middle.
rm -rf "$CATGA_DATA"
cp -r "$tmp/good" "$CATGA_DATA"
rm "$CATGA_DATA/log/segment-0000000002.log"
check "a repair as document" 0 '"lost_first":[0-9]+,"lost_last":[0-9]+' "$program" log repair \
  --yes -o json
check "good after it" 0 '^no fault' "$program" log verify

# The last two are missing: the log looks whole, but what is derived knows better.
rm -rf "$CATGA_DATA"
cp -r "$tmp/good" "$CATGA_DATA"
find "$CATGA_DATA/log" -name 'segment-*' | sort | tail -n 2 | xargs rm
check "a lost end is found" 1 'files at its end are missing' "$program" log verify
check "the app does not start on it" 1 . "$program" run "$tmp/app" --data "$CATGA_DATA"
check "a repair says so" 2 'Lost: positions [0-9]+ to [0-9]+' "$program" log repair
check "a repair puts aside what is derived" 0 '^repaired' "$program" log repair --yes
check "good after that" 0 '^no fault' "$program" log verify
start_app
check "it takes events again" 0 true "$program" send Note '{"from":2000,"count":1}'
check "and has them" 0 '"n":2001' "$program" stream read Note-2001
stop_app

# --- backup and restore ---

data="$CATGA_DATA"
backup="$tmp/backup"
rm -rf "$data"
check "no log to back up" 3 'there is no log' "$program" log backup "$backup"
check "no backup to restore" 3 'there is no backup' "$program" log restore "$backup"
check "a backup needs a directory" 2 'name one directory' "$program" log backup
cp -r "$tmp/good" "$data"
check "of a closed log" 0 '^backed up: positions 1 to [0-9]+, [5-9] segments' \
  "$program" log backup "$backup"
check "again: only the last segment" 0 'copied 1 segment,' "$program" log backup "$backup"
check "the backup is a log" 0 '^no fault' "$program" log verify --data "$backup"
check "another log is refused" 1 'holds a log, but no manifest' "$program" log backup "$tmp/good"
check "a restore needs an empty directory" 1 'is not empty' "$program" log restore "$backup"
check "a restore" 0 '^restored: positions 1 to' "$program" log restore "$backup" \
  --data "$tmp/restored"
check "what was restored is whole" 0 '^no fault' "$program" log verify --data "$tmp/restored"
is "and the same" cmp "$tmp/restored/log/segment-0000000002.log" \
  "$data/log/segment-0000000002.log"

# same_log DIRECTORY: every segment there is the beginning of the one in the data directory.
same_log() {
  local file count=0
  for file in "$1"/log/segment-*.log; do
    cmp -n "$(stat -c %s "$file")" "$file" "$data/log/$(basename "$file")" || return 1
    count=$((count + 1))
  done
  test "$count" -gt 0
}

# end_of FILE: the position behind the last record, of a document.
end_of() {
  sed 's/.*"next_position":\([0-9]*\).*/\1/' "$1"
}

# Under load: each backup holds what was durable when it began.
start_app
check "load" 0 true "$program" send Load '{"on":true}'
before=0
for _ in 1 2 3 4 5; do
  "$program" log stats -o json >"$tmp/stats"
  durable=$(sed 's/.*"durable_position":\([0-9]*\).*/\1/' "$tmp/stats")
  "$program" log backup "$backup" -o json >"$tmp/run" || fail "a backup under load"
  is "it holds all that was durable before" test "$(end_of "$tmp/run")" -ge "$durable"
  is "it never shrinks" test "$(end_of "$tmp/run")" -ge "$before"
  before=$(end_of "$tmp/run")
  is "it is the log's beginning" same_log "$backup"
done
is "it has what came under load" test "$before" -gt 401
check "it is whole" 0 "no fault" "$program" log verify --data "$backup"

# Killed at twenty places; what can be restored is whole each time, and never less than before.
for place in 1 2 3 4 5 6 8 10 12 15; do
  for call in pwrite datasync; do
    { CATGA_FAULT="kill:$call:$place" "$program" log backup "$backup"; } >/dev/null 2>&1
    rm -rf "$tmp/restored"
    check "a restore after a kill at $call $place" 0 '"next_position"' "$program" log restore \
      "$backup" --data "$tmp/restored" -o json
    "$program" log verify --data "$tmp/restored" -o json >"$tmp/run"
    is "it has lost nothing" test "$(end_of "$tmp/run")" -ge "$before"
    before=$(end_of "$tmp/run")
    is "it is the log's beginning" same_log "$tmp/restored"
    check "the folder of the backup is a log" 0 '"fault_count":0' "$program" log verify \
      --data "$backup" -o json
  done
done
check "no more load" 0 true "$program" send Load '{"on":false}'
check "the last backup" 0 '^backed up' "$program" log backup "$backup"
"$program" stream read Load-1 --max 10000 -o json >"$tmp/events"
check "stats of a running app" 0 '^running +true' "$program" log stats
kill -KILL "$pid"
wait "$pid" 2>/dev/null

# An app on what was restored has every event.
rm -rf "$data"
check "the last restore" 0 '^restored' "$program" log restore "$backup"
start_app
"$program" stream read Load-1 --max 10000 -o json >"$tmp/restored-events"
is "there are events" test -s "$tmp/events"
is "all events are there" cmp "$tmp/events" "$tmp/restored-events"
stop_app

# A backup that has taken harm.
cp -r "$backup" "$tmp/harmed"
flip "$tmp/harmed/log/segment-0000000001.log" 30000
check "a damaged file" 1 'the backup is damaged: segment 1 ' "$program" log restore "$tmp/harmed" \
  --data "$tmp/none"
rm "$tmp/harmed/log/segment-0000000000.log"
check "a missing file" 1 'is incomplete: .*segment-0000000000.log is missing' \
  "$program" log restore "$tmp/harmed" --data "$tmp/nothing"

# Keys are left out, unless they are asked for.
echo secret >"$data/keys"
check "without keys" 0 '^backed up' "$program" log backup "$backup"
is "they are not in it" test ! -e "$backup/keys"
check "with keys" 0 '^1 file of keys copied' "$program" log backup "$backup" --with-keys
is "they are in it, for their owner only" test "$(stat -c %a "$backup/keys")" = 600
check "a restore without keys" 0 '^restored' "$program" log restore "$backup" --data "$tmp/plain"
is "has none" test ! -e "$tmp/plain/keys"
check "a restore with keys" 0 '^1 file of keys copied' "$program" log restore "$backup" \
  --with-keys --data "$tmp/keyed"
is "has them" cmp "$tmp/keyed/keys" "$data/keys"

# A log that has lost records is not taken over a backup that has them.
rm -rf "$data"
cp -r "$tmp/good" "$data"
check "a shorter log" 1 'it has lost records since' "$program" log backup "$backup"
check "the backup stays" 0 '^restored' "$program" log restore "$backup" --data "$tmp/again"
finish
