#!/bin/bash
# message_verbs_spec.sh - `catga outbox` and `catga dlq`, the same over HTTP, and messages of a
# program that is killed again and again: none is lost, none has its effect twice.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/message_verbs_spec.sh
source "$(dirname "$0")/program.sh"

kills=4
messages_each=300

new_app
app catga.lua <<'LUA'
return { outbox_concurrency = 20 }
LUA
app main.lua <<'LUA'
local catga = require "catga"
catga.command("Pay", function(cmd)
  if cmd.amount < 0 then return nil, catga.error("negative", "the amount is below zero") end
  assert(catga.events.append("Paid", { { type = "Paid", data = cmd } }))
  return cmd.amount
end)
catga.command("Work", function(cmd)
  catga.sleep("1ms")
  assert(catga.events.append("Work", { { type = "Worked", data = { n = cmd.n } } }))
end)
catga.command("Send", function(cmd)
  for n = cmd.first, cmd.last do
    assert(catga.enqueue("Work", { n = n }, { group = n % 3 == 0 and "g" or nil }))
  end
end)
catga.query("Worked", function()
  local seen, count, twice, last = {}, 0, 0, 0
  local from = 0
  while from do
    local list
    list, from = catga.events.read("Work", { from = from, max = 1000 })
    for _, event in ipairs(list) do
      local n = event.data.n
      if seen[n] then twice = twice + 1 end
      seen[n], count = true, count + 1
      if n % 3 == 0 then
        if n < last then twice = twice + 1000 end
        last = n
      end
    end
  end
  return { count = count, twice = twice }
end)
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga outbox` and `catga dlq`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" "$@"
}

field() { # name
  sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"
}

post() { # path body
  curl -s --unix-socket "$CATGA_DATA/catga.sock" -d "$2" "http://catga$1"
}

http "enqueue" 202 '"id":"[0-9]+"' -d '{"name":"Pay","data":{"amount":5}}' http://catga/outbox
http "no such command" 404 'did you mean Pay' -d '{"name":"Pai"}' http://catga/outbox
http "no such option" 400 'did you mean delay' -d '{"name":"Pay","delai":"1s"}' http://catga/outbox
http "a key" 202 '"id"' -H 'Idempotency-Key: k1' -d '{"name":"Pay","data":{"amount":6}}' \
  http://catga/outbox
http "the key with other data" 409 'used before with other data' -H 'Idempotency-Key: k1' \
  -d '{"name":"Pay","data":{"amount":7}}' http://catga/outbox
http "a command with the key and other data" 409 'used before' -H 'Idempotency-Key: k1' \
  -d '{"amount":7}' http://catga/commands/Pay
http "a command with the key" 200 '^6$' -H 'Idempotency-Key: k1' -d '{"amount":6}' \
  http://catga/commands/Pay
verb "inbox" 0 '^keys +1' outbox inbox
later=$(post /outbox '{"name":"Pay","data":{"amount":8},"delay":"1h","group":"g1"}' | field id)
verb "list" 0 "$later +Pay +delayed +g1" outbox list
verb "list of a group" 0 '^\{.*"status":"delayed"' outbox list --group g1 -o json
verb "list of another group" 0 '^$' outbox list --group g2 -o json
verb "status" 0 '^delayed +1' outbox status
verb "show" 0 '^data +\{"amount":8\}' outbox show "$later"
verb "no such message" 3 'no message 17' outbox show 17
verb "make it due" 0 '^$' outbox retry "$later"
handled() { "$program" outbox show "$later" -o json | grep -q '"status":"handled"'; }
is "it is handled" until_ok handled
verb "cancel what is handled" 1 'is handled' outbox cancel "$later"
other=$(post /outbox '{"name":"Pay","data":{"amount":9},"delay":"1h"}' | field id)
verb "cancel" 0 '^$' outbox cancel "$other"
verb "it is cancelled" 0 '^status +cancelled' outbox show "$other"
verb "no id" 2 'the id of one message' outbox show
verb "usage" 0 'catga outbox cancel ID' outbox cancel --help

post /outbox '{"name":"Pay","data":{"amount":-5}}' >/dev/null
post /outbox '{"name":"Pay","data":{"amount":-6}}' >/dev/null
two_letters() { [ "$("$program" dlq list -o json | wc -l)" = 2 ]; }
is "two are dead letters" until_ok two_letters
verb "letters" 0 'message +Pay +open .* 1 +negative +the amount is below zero' dlq list
verb "groups" 0 '^2 .*message Pay: negative' dlq groups
letter=$("$program" dlq list --max 1 -o json | field id)
verb "show a letter" 0 '^data +\{"amount":-5\}' dlq show "$letter"
verb "no such letter" 3 'no dead letter 17' dlq show 17
verb "edit" 0 '^$' dlq edit "$letter" '{"amount":55}'
verb "edit with no JSON" 2 '.' dlq edit "$letter" '{"amount"'
verb "retry" 0 '^letters +1' dlq retry "$letter"
one_letter() { [ "$("$program" dlq list -o json | wc -l)" = 1 ]; }
is "it is done" until_ok one_letter
verb "it is closed" 0 '^status +retried' dlq show "$letter"
verb "it is listed as closed" 0 "$letter" dlq list --status retried
verb "retry what is closed" 1 'is closed' dlq retry "$letter"
verb "retry without saying what" 2 'give the id' dlq retry
verb "retry by group" 0 '"count":1' dlq retry --group 'message Pay: negative' -o json
open_again() { "$program" dlq list --status open -o json | grep -q '"retries":1'; }
is "it is open again" until_ok open_again
verb "purge" 0 '"count":1' dlq purge --source Pay -o json
verb "none is left" 0 '^$' dlq list -o json
verb "purge all of nothing" 0 '"count":0' dlq purge --all -o json
http "letters over HTTP" 200 '^\[\]$' http://catga/dead-letters
http "nothing at that path" 404 'retry and purge' -d '{}' http://catga/dead-letters/1/drop
verb "usage of retry" 0 'catga dlq retry ID' dlq retry --help

# Killed again and again.
worked() { # count
  "$program" ask Worked '{}' | grep -q "\"count\":$1[,}]"
}
total=0
for _ in $(seq "$kills"); do
  "$program" send Send "{\"first\":$((total + 1)),\"last\":$((total + messages_each))}" >/dev/null
  total=$((total + messages_each))
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  start_app
done
is "all are handled" until_ok worked "$total"
check "none twice, the group in order" 0 '"twice":0' "$program" ask Worked '{}'
stop_app

finish
