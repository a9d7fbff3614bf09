#!/bin/bash
# personal_verbs_spec.sh - `catga personal` and `catga forget`: list, export, forget; after a kill;
# with a master key.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/personal_verbs_spec.sh
source "$(dirname "$0")/program.sh"

secret='Ada Lovelace of London'

new_app
app main.lua <<<'local catga = require "catga"
catga.personal("Registered", { subject = "id", fields = { "name" } })
catga.command("Register", function(cmd)
  for i = 1, cmd.times or 1 do
    assert(catga.events.append("Person-" .. cmd.id, { { type = "Registered", data = cmd } }))
  end
end)
local people = catga.projection "People"
function people.on.Registered(event, model) model:put(event.id, { known = true }) end'

register() {
  "$program" send Register "{\"id\":\"$1\",\"name\":\"$secret\",\"times\":${2:-1}}" >"$tmp/out"
}

# kill_app: as a crash.
kill_app() {
  kill -KILL "$pid"
  wait "$pid" 2>"$tmp/out"
  pid=""
}

in_plain() {
  grep -rqaF "$secret" "$CATGA_DATA"
}

# Opened on first use: an app without personal data does not load libcrypto.
mkdir "$tmp/other-app"
echo 'require("catga").query("Q", function() return 1 end)' >"$tmp/other-app/main.lua"
"$program" run "$tmp/other-app" --data "$tmp/other-data" >"$tmp/run.log" 2>&1 &
pid=$!
until_ok is_up
is "no libcrypto without personal data" test -z "$(grep libcrypto "/proc/$pid/maps")"
stop_app
is "and no file of keys" test ! -e "$tmp/other-data/keys"

start_app
is "libcrypto with it" grep -q libcrypto "/proc/$pid/maps"
check "nobody yet" 0 '^SUBJECT +SINCE +KEY +FORGOTTEN' "$program" personal list
register 7 1200
register 8
register odd/one
check "a list" 0 '^7 +20[0-9-]+ .* 1-[0-9a-f]{16} +false' "$program" personal list
check "by prefix" 0 '^odd/one' "$program" personal list --prefix odd
is "only that" test "$("$program" personal list --prefix odd -o json | wc -l)" -eq 1
is "an export has every event" test "$("$program" personal export 7 | grep -cF "$secret")" -eq 1200
check "of a subject with a slash" 0 "$secret" "$program" personal export odd/one
check "of somebody unknown" 3 'not_found: no personal data of this subject' "$program" personal \
  export 9
check "without a name" 2 'name one person' "$program" personal export
check "a name that is too long" 1 'invalid: a subject has 1 to 128 bytes' "$program" forget \
  "$(printf 'x%.0s' {1..200})"
is "nothing is in plain on the disk" test -z "$(in_plain && echo found)"

kill_app
start_app
is "readable after a kill" test "$("$program" personal export 7 | grep -cF "$secret")" -eq 1200
check "forgetting tells what to rebuild" 0 '^to rebuild +\["People"\]' "$program" forget 7
kill_app
start_app
check "forgotten after a kill" 1 'forgotten: this subject was forgotten' "$program" personal export 7
check "again" 0 '^key +1-' "$program" personal forget 7
check "no longer listed" 0 '^8 ' "$program" personal list
is "really" test "$("$program" personal list -o json | wc -l)" -eq 2
check "unless asked for" 0 '"forgotten":true,"key":"1-' "$program" personal list --forgotten -o json
check "null in the stream" 0 '"name":null' "$program" stream read Person-7 -o json --max 1
check "new data is refused" 1 'forgotten: event Registered: its subject was forgotten' \
  "$program" send Register '{"id":"7","name":"x"}'
check "over HTTP" 0 '"code":"forgotten"' curl -s --unix-socket "$CATGA_DATA/catga.sock" \
  http://catga/subjects/7
check "the list over HTTP" 0 '^\[\{.*"subject":"8"' curl -s --unix-socket "$CATGA_DATA/catga.sock" \
  'http://catga/subjects?prefix=8'
stop_app

# Old keys do not come back, with or without a master key; a wrong one does not open.
head -c 32 /dev/urandom >"$tmp/master"
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$tmp/other"
cp "$CATGA_DATA/keys" "$tmp/keys.plain"
export CATGA_MASTER_KEY_FILE="$tmp/master"
start_app
check "a master key is put on" 0 "$secret" "$program" personal export 8
stop_app
is "the keys are wrapped" test -z "$(cmp -s "$CATGA_DATA/keys" "$tmp/keys.plain" && echo same)"
unset CATGA_MASTER_KEY_FILE
check "without it nothing starts" 1 'name its file in CATGA_MASTER_KEY_FILE' "$program" run \
  "$tmp/app" --data "$CATGA_DATA"
export CATGA_MASTER_KEY_FILE="$tmp/other"
check "with another one neither" 1 'CATGA_MASTER_KEY_FILE_OLD' "$program" run "$tmp/app" \
  --data "$CATGA_DATA"
export CATGA_MASTER_KEY_FILE_OLD="$tmp/master"
start_app
check "unless the one before is named" 0 "$secret" "$program" personal export 8
check "a forgotten one stays so" 1 'forgotten' "$program" personal export 7
stop_app

# Kills while persons are made: whatever was acknowledged can be read, and nothing is damaged.
kills="${CATGA_KILLS:-6}"
unset CATGA_MASTER_KEY_FILE CATGA_MASTER_KEY_FILE_OLD
rm -rf "$CATGA_DATA"
: >"$tmp/acknowledged"
next=0
for ((kill = 1; kill <= kills; kill++)); do
  start_app
  (
    for ((n = next; n < next + 400; n++)); do
      "$program" send Register "{\"id\":\"k$n\",\"name\":\"$secret\"}" >"$tmp/sent" 2>&1 || exit 0
      echo "k$n" >>"$tmp/acknowledged"
    done
  ) &
  sender=$!
  wanted=$(($(wc -l <"$tmp/acknowledged") + 5 + RANDOM % 20))
  has_sent() { [ "$(wc -l <"$tmp/acknowledged")" -ge "$wanted" ]; }
  until_ok has_sent || fail "nothing is acknowledged"
  kill_app
  wait "$sender"
  next=$((next + 400))
done
start_app
"$program" stream list --prefix Person-k --max 1000 -o json >"$tmp/streams"
unreadable=0
while read -r id; do
  "$program" stream read "Person-$id" -o json | grep -qF "$secret" || unreadable=$((unreadable + 1))
done <"$tmp/acknowledged"
is "$(wc -l <"$tmp/acknowledged") acknowledged persons are readable after $kills kills" \
  test "$unreadable" -eq 0
# What was stored and not acknowledged is readable too: its key was durable first.
unreadable=0
for id in $(grep -o '"Person-k[0-9]*"' "$tmp/streams" | tr -d '"'); do
  "$program" stream read "$id" -o json | grep -qF "$secret" || unreadable=$((unreadable + 1))
done
is "and so is every stored one" test "$unreadable" -eq 0
is "no key is damaged" test -z "$(grep 'keys are damaged' "$tmp/run.log")"
stop_app
finish
