#!/bin/bash
# log_tools_spec.sh - catga log verify and repair, on logs that an app has written.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/log_tools_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<<'local catga = require "catga"
catga.command("Note", function(c)
  for i = 1, c.count do
    catga.events.append("Note-" .. (c.from + i), { { type = "Noted",
      data = { n = c.from + i, text = ("x"):rep(500) } } })
  end
  return true
end)
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
check "a good log needs no repair" 0 'nothing to repair' "$program" log repair --yes
is "and nothing was put aside" test -z "$(find "$CATGA_DATA/log" -name 'aside-*')"

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
finish
