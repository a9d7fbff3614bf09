#!/bin/bash
# webhooks_spec.sh - examples/webhooks as a program that gets real payloads over HTTP, twice each, and
# is killed between: they come out of the store as they went in, compared by another JSON.
#
# Usage: CATGA_PROGRAM=build/catga [BUILD=build] spec/functional/webhooks_spec.sh
# Without node, or without the payloads that scripts/fetch_webhooks gets, it only checks that the
# example starts, and says why.
source "$(dirname "$0")/program.sh"

example=$(realpath "$(dirname "$0")/../../examples/webhooks")
build=${BUILD:-$(dirname "$program")}
payloads=$build/webhooks
[ -e "$payloads/api.github.com" ] || payloads=$build/../webhooks
mkdir -p "$tmp"
ln -s "$example" "$tmp/app"
start_app --no-watch

http "a webhook that is not as it must be" 422 'repository must be an object' \
  -d '{"event":"push","payload":{"repository":5}}' http://catga/commands/ReceiveWebhook
check "explain" 0 '^tickets-1 +topic +to-triage +nobody' "$program" route explain \
  '{"type":"github.issues","data":{"action":"opened"}}'

if ! command -v node >/dev/null || [ ! -e "$payloads/api.github.com/index.json" ]; then
  echo "pending: real payloads: $(cat "$payloads/missing" 2>/dev/null ||
    echo "no node, or scripts/fetch_webhooks was not run")"
  stop_app
  finish
  exit
fi

files=("$payloads"/*/index.json)
send() {
  timeout "$seconds_max" node "$example/send.mjs" "$CATGA_DATA/catga.sock" "$@"
}

# Half of the files, a kill, and all of them.
is "half of the payloads are sent" send "${files[@]:0:3}" >/dev/null
kill -KILL "$pid"
wait "$pid" 2>/dev/null
start_app --no-watch
count=$(send "${files[@]}")
is "all are sent" test "${count:-0}" -gt 700

caught_up() {
  "$program" route status -o json | grep -q '"lag":0'
}
archive() {
  local stream
  "$program" stream list -o json --max 1000 | grep -o '"\(Repository-[^"]*\|NoRepository\)"' |
    tr -d '"' | sort -u | while read -r stream; do
    "$program" stream read "$stream" --max 10000 -o json
  done >"$tmp/archive"
}
is "the routes have caught up" until_ok caught_up
archive
check "they come out as they went in" 0 "^$count\$" \
  node "$example/spec/compare.mjs" "$tmp/archive" "${files[@]}"
counted() {
  [ "$("$program" ask WebhookCount '{"name":"push"}')" = \
    "$(grep -c '"type":"archived.push"' "$tmp/archive")" ]
}
is "the read model has counted them" until_ok counted
stop_app
finish
