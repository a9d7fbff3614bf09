--- Personal data does not get into the log in plain by way of what the runtime keeps itself.
local testing = require "catga.testing"
local catga = require "catga"

local SECRET = "Ada Lovelace of London"
local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(define)
  app = assert(testing.app(function()
    catga.personal("Registered", { subject = "id", fields = { "name" } })
    define()
  end))
end

-- The records of the log that hold the secret.
local function leaks()
  local store, list = app.app.store, {}
  for _, name in ipairs(store:streams("", "", 1000)) do
    for _, record in ipairs(store:read(store:stream(name), 0, 1000)) do
      if app.app.json.encode({ record.data, record.metadata }):find(SECRET, 1, true) then
        list[#list + 1] = name .. " " .. record.type
      end
    end
  end
  return list
end

local function register(id) app:publish("Registered", { id = id, name = SECRET, city = "L" }) end

local function letters(kind) return app:call(catga.dead_letters.list, { kind = kind }) end

describe("an event with personal fields", function()
  it("is encrypted in the dead letters of handlers, routes and projections", function()
    open(function()
      local function fail() error("no") end
      catga.route("Registered", { name = "r", attempts = 1 }):transform(fail):to("X")
      catga.on("Registered", fail)
      local p = catga.projection "P"
      p.on_error = "dead_letter"
      p.on.Registered = fail
    end)
    register("1")
    app:advance("1h")
    assert.equal(3, #letters())
    assert.same({}, leaks())
    local letter = app:call(catga.dead_letters.get, letters("projection")[1].id)
    assert.equal(SECRET, letter.data.name)
  end)
end)

describe("a group of messages with personal fields", function()
  local seen, is_down

  local function define()
    catga.route("Registered", { name = "r", attempts = 2, backoff = "1s" })
      :aggregate { by = "city", complete = 5, timeout = "1h", result = function(items)
        if is_down then error("down") end
        seen = {}
        for i, item in ipairs(items) do seen[i] = item.id .. item.name end
        return { count = #items }
      end }:to("Grouped")
  end

  before_each(function() seen, is_down = nil, false end)

  it("is encrypted while it waits, and the same after a restart", function()
    open(define)
    for n = 1, 3 do register(n .. "") end
    app:settle()
    assert.same({}, leaks())
    app = assert(app:crash())
    register "4"
    app = assert(app:crash())
    register "5"
    app:settle()
    local all = {}
    for n = 1, 5 do all[n] = n .. SECRET end
    assert.same(all, seen)
    assert.same({}, leaks())
  end)

  it("is without those who were forgotten after a restart", function()
    open(define)
    for n = 1, 3 do register(n .. "") end
    app:settle()
    assert(app:call(catga.forget, "2"))
    app = assert(app:crash())
    app:advance("2h")
    assert.same({ "1" .. SECRET, "3" .. SECRET }, seen)
  end)

  it("is encrypted as a dead letter, and goes on when that is retried", function()
    open(define)
    is_down = true
    for n = 1, 3 do register(n .. "") end
    app:advance("2h")
    local letter = letters("route")[1]
    assert.equal("route", letter.kind)
    assert.same({}, leaks())
    is_down = false
    assert(app:call(catga.forget, "2"))
    assert(app:call(catga.dead_letters.retry, letter.id))
    app:advance("1m")
    assert.same({ "1" .. SECRET, "3" .. SECRET }, seen)
    assert.same({}, letters("route"))
  end)
end)
