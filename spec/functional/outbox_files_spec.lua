--- Messages and dead letters in files: over restarts, scavenges and an index that is built anew.
--- What was handled is never handled again, what waits is not lost.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"

local FILLER = ("x"):rep(400)

local app, dir, now, seen

local function define()
  catga.command("Do", function(cmd)
    seen[cmd.n] = (seen[cmd.n] or 0) + 1
    if cmd.fails then return nil, catga.error("refused") end
    return true
  end)
end

local function open()
  app = assert(testing.app(define, { data = dir .. "/data", start = now, settings = {
    segment_size = "64KiB", durability = "os", scavenge_min = 0, outbox_retain = "1h",
    dead_letter_retain = "1h", inbox_window = "1h" } }))
end

local function reopen(without_index)
  now = app.clock:now()
  app:stop()
  if without_index then os.execute(("rm -rf '%s/data/index'"):format(dir)) end
  open()
end

before_each(function()
  dir, now, seen = app_dir.new {}, nil, {}
  open()
end)

after_each(function()
  app:stop()
  app_dir.remove_all()
end)

-- Fills segments until all before are sealed.
local function fill()
  local seals, n = #app.app.store:seals(), 0
  repeat
    n = n + 1
    assert(app:call(catga.events.append, "Filler-" .. n % 50, { { type = "E", data = FILLER } }))
  until #app.app.store:seals() > seals
end

local function scavenge() return assert(app:call(catga.events.scavenge)).removed_events end

describe("messages in files", function()
  it("are done once and kept while they wait, whatever is scavenged or built anew", function()
    for n = 1, 60 do
      local delay = n % 3 == 0 and "30d" or n % 3 == 1 and "5m" or nil
      assert(app:call(catga.enqueue, "Do", { n = n, fails = n % 5 == 2, filler = FILLER },
        { delay = delay, key = n % 2 == 0 and "k" .. n or nil }))
      if n % 20 == 0 then fill() end
    end
    app:advance("10m")
    fill()
    assert.equal(8, #app:call(catga.dead_letters.list))
    local purged = app:call(catga.dead_letters.list)[1].id
    assert(app:call(catga.dead_letters.purge, purged))
    fill()
    app:advance("2h")
    fill()
    local removed = 0
    for round = 1, 4 do
      removed = removed + scavenge()
      reopen(round % 2 == 0)
      app:advance("1h")
      assert.equal(20, app:call(catga.outbox.status).waiting)
      assert.equal(7, #app:call(catga.dead_letters.list))
      fill()
    end
    assert.is_true(removed > 80)
    for n = 1, 60 do assert.equal(n % 3 ~= 0 and 1 or nil, seen[n]) end
    assert.equal("not_found", select(2, app:call(catga.dead_letters.get, purged)).code)
    app:advance("31d")
    for n = 1, 60 do assert.equal(1, seen[n]) end
    assert.equal(0, app:call(catga.outbox.status).waiting)
    reopen(true)
    app:advance("1d")
    for n = 1, 60 do assert.equal(1, seen[n]) end
  end)
end)
