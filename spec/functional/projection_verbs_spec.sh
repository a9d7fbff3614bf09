#!/bin/bash
# projection_verbs_spec.sh - `catga projection` and `catga sql`, on a running program and on its
# files; and SQL tables of a program that is killed: each event is in them once.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/projection_verbs_spec.sh
source "$(dirname "$0")/program.sh"

kills=5
rounds=4000

new_app
app main.lua <<'LUA'
local catga = require "catga"
local orders = catga.projection "Orders"
orders.on_error = "skip"
function orders.on.OrderPlaced(event, model)
  if event.amount < 0 then error("no money back") end
  model:put(event.id, event)
end
local sales = catga.projection "Sales"
sales.tables = { "CREATE TABLE sales (customer TEXT PRIMARY KEY, total INTEGER, orders INTEGER)" }
function sales.on.OrderPlaced(event, model)
  model:sql("INSERT INTO sales VALUES (?, ?, 1) ON CONFLICT (customer) DO UPDATE SET "
    .. "total = total + excluded.total, orders = orders + 1", event.customer, event.amount)
  local row = model:rows("SELECT sum(orders) AS n FROM sales")[1]
  model:put("count", { n = row.n })
end
catga.command("Place", function(cmd)
  for i = cmd.from, cmd.to do
    assert(catga.events.append("Orders", { { type = "OrderPlaced", data = { id = "o" .. i,
      customer = "c" .. i % 7, amount = i == 13 and -1 or i } } }))
  end
  return true
end)
catga.query("Count", function() return catga.model("Sales"):get("count") end)
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga projection`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" projection "$@"
}

sql() { # NAME CODE PATTERN ARGUMENTS...
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" sql "$@"
}

check "orders are placed" 0 '^true$' "$program" send Place '{"from":1,"to":20}'
caught_up() { ! "$program" projection list -o json | grep -vq '"lag":0,'; }
is "the projections catch up" until_ok caught_up
check "a query after a position" 0 '^\{"n":20\}$' "$program" ask Count --after 20
check "one that is far ahead" 1 'behind: the read model Sales stands at position 20' \
  "$program" ask Count --after 1000
check "--after is for queries" 2 'there is no option --after' "$program" send Place '{}' --after 1

verb "list" 0 '^Orders +1 +running +background +0 +0 +[0-9.]+ +1 *$' list
verb "list for programs" 0 '"name":"Sales".*"skipped":0' list -o json
verb "show" 0 '^position +20' show Sales
verb "no such projection" 3 'did you mean Sales' show Sale
verb "no name" 2 'name one projection' show
verb "skipped" 0 '^1 +13 +OrderPlaced +Orders +error +.*no money back' skipped Orders
verb "skipped for programs" 0 '"position":13' skipped Orders -o json
verb "pause" 0 '^status +paused' pause Sales --note repair
verb "it is paused" 0 '^note +repair' show Sales
verb "a paused one is not started" 1 'conflict: projection Sales is paused' start Sales
verb "resume" 0 '^status +running' resume Sales
verb "stop" 0 '^status +stopped' stop Sales
verb "start" 0 '^status +running' start Sales
verb "rebuild and wait" 0 '^status +running' rebuild Sales --wait
verb "rebuild" 0 '^name +Orders' rebuild Orders
verb "usage" 0 'projection rebuild NAME' rebuild --help

is "the rebuilds are over" until_ok caught_up
look_at_models() { # WHERE: where the models are.
  sql "documents, $1" 0 '^o7 +7 *$' "select key, doc->>'amount' as amount from Orders where key = 'o7'"
  sql "its head, $1" 0 '^key +amount *$' "select key, doc->>'amount' as amount from Orders limit 1"
  sql "tables, $1" 0 '^\{"orders":3,"total":24\}$' \
    "select total, orders from \"Sales\".sales where customer = 'c1'" -o json
  sql "both, $1" 0 '^\{"count\(\*\)":19,"n":20\}$' \
    "select count(*), (select sum(orders) from \"Sales\".sales) as n from Orders" -o json
  check "from stdin, $1" 0 '^\{"x":1\}$' bash -c '"$0" sql - -o json <<<"select 1 as x"' "$program"
  sql "bounded, $1" 0 'there are more rows' "select key from Orders" --max 2
  sql "nothing else than SELECT, $1" 1 'invalid: ' \
    "delete from Orders"
  sql "a mistake, $1" 1 'no such column: missing' "select missing from Orders"
  sql "too long, $1" 1 'timeout: the query took longer' --timeout 50ms \
    "with recursive c(n) as (select 1 union all select n + 1 from c) select max(n) from c"
}
look_at_models "running"
sql "inside of one" 0 '^\{"n":20\}$' "select doc->>'n' as n from documents" --on Sales -o json
sql "inside of none" 3 'no projection is called Nobody' "select 1" --on Nobody
sql "no query" 2 'give a query'
http "position of an answer" 200 '^Catga-Position: [0-9]+' http://catga/commands/Place \
  -d '{"from":1,"to":0}'
http "list" 200 '"name":"Sales"' http://catga/projections
http "SQL" 200 '"rows":\[\{"n":19\}\]' http://catga/sql -d '{"query":"select count(*) n from Orders"}'
stop_app
look_at_models "closed"

# Killed again and again while events come in.
start_app
position() { # of Sales
  "$program" projection show Sales -o json 2>/dev/null | sed 's/.*"position":\([0-9]*\).*/\1/'
}
has_come_to() { [ "$(position || true)" != "" ] && [ "$(position)" -ge "$1" ] 2>/dev/null; }
from=21
for kill in $(seq "$kills"); do
  "$program" send Place "{\"from\":$from,\"to\":$((from + rounds - 1))}" >/dev/null &
  sender=$!
  is "it has begun before kill $kill" until_ok has_come_to $((from + 100 * kill))
  kill -KILL "$pid"
  wait "$pid" "$sender" 2>/dev/null
  start_app
  from=$((from + rounds))
done
is "it catches up" until_ok caught_up
last=$("$program" stream read Orders --backward --max 1 -o json | sed 's/.*"version":\([0-9]*\).*/\1/')
events=$((last + 1))
is "there are many" test "$events" -gt 100
sql "each event is in the tables once" 0 "^\{\"n\":$events\}$" \
  'select sum(orders) as n from "Sales".sales' -o json
sql "and in the documents" 0 "^\{\"n\":$events\}$" "select doc->>'n' as n from documents" --on Sales \
  -o json
stop_app
finish
