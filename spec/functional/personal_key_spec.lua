--- Keys of persons: durable before what they encrypt, forgotten for good, also by an old file; and
--- what a declaration must be.
local testing = require "catga.testing"
local catga = require "catga"
local app_dir = dofile "spec/support/app_dir.lua"
local people = dofile "spec/support/people.lua"

local SECRET, STREET, PHONE = people.SECRET, people.STREET, people.PHONE
local person = people.person

local app

local function open(opts)
  people.delivered = {}
  app = assert(testing.app(people.define, opts))
end

local function on_disk(dir, text)
  local pipe = assert(io.popen(("grep -rlaF -- '%s' '%s'"):format(text:gsub("'", "'\\''"), dir)))
  local found = pipe:read("*a")
  pipe:close()
  return found
end

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

local function read(id, opts) return app:call(catga.events.read, "Customer-" .. id, opts) end

describe("a key", function()
  -- Stands before the keys; the methods in `instead` replace theirs.
  local function stand_before(instead)
    local keys = app.app.personal
    app.app.personal = setmetatable({}, { __index = function(_, name)
      return instead[name] or function(_, ...) return keys[name](keys, ...) end
    end })
    return keys
  end

  it("is durable before the event that it encrypts is stored", function()
    open()
    local waited
    stand_before { wait = function(_, change)
      waited = change
      assert.equal(1, app:position())
      return true
    end }
    assert(app:send("Register", person("7")))
    assert.equal(1, waited)
    assert.equal(2, app:position())
  end)

  it("that cannot be stored keeps the event from being stored", function()
    open()
    local refuse = function()
      return false, catga.error("disk_full", "no space", { retryable = true })
    end
    local keys = stand_before { wait = refuse }
    local ok, err = app:send("Register", person("7"))
    assert.is_nil(ok)
    assert.equal("disk_full", err.code)
    assert.equal(1, app:position())
    app.app.personal = keys
    assert(app:send("Register", person("7")))
    assert.equal(SECRET, read("7")[1].data.name)
  end)

  it("is durable before the step that uses it is done", function()
    local steps = {}
    app = assert(testing.app(function()
      people.define()
      local P = catga.process "P"
      function P:execute(input) return self:register(input) end
      function P:register(input)
        assert(catga.events.append("Customer-7",
          { { type = "Registered", data = person(input.id) } }))
        return "done"
      end
    end))
    people.delivered = {}
    stand_before { wait = function()
      steps[#steps + 1] = app:position()
      return true
    end }
    assert.equal("done", app:run("P", { id = "7" }))
    assert.same({ 2 }, steps) -- Behind the start record, before the event.
    assert.equal(SECRET, read("7")[1].data.name)
  end)

  it("whose end cannot be stored durably is an error, and it ends at the next start", function()
    open()
    assert(app:send("Register", person("7")))
    local keys = stand_before { forget = function()
      return nil, catga.error("io_error", "broken")
    end }
    local result, err = app:call(catga.forget, "7")
    assert.is_nil(result)
    assert.equal("io_error", err.code)
    app.app.personal = keys
    assert.equal(SECRET, read("7")[1].data.name)
    app = assert(app:crash())
    assert.equal(catga.null, read("7")[1].data.name)
  end)

  it("is made once for events of one unit, and for units at the same time", function()
    local dir = app_dir.new {}
    open { data = dir }
    app:call(function()
      catga.map({ 1, 2, 3, 4, 5, 6 }, function(i)
        assert(catga.events.append("Customer-7", { { type = "Registered", data = person("7") },
          { type = "Registered", data = person("8") } }))
        return i
      end)
    end)
    assert.equal(2, app.app.personal:queued())
    for _, event in ipairs(read("7")) do assert.equal(SECRET, event.data.name) end
  end)
end)

describe("a declaration", function()
  local function fault_of(...)
    local args = { ... }
    local opened, err = testing.app(function() catga.personal(unpack(args)) end)
    if opened then opened:stop() end
    assert.is_nil(opened)
    return err.message
  end

  for says, args in pairs {
    ["needs the type of an event"] = { "", {} },
    ["give { subject = ..., fields = { ... } }"] = { "A" },
    ["unknown field \"field\""] = { "A", { subject = "id", field = {} } },
    ["fields is a list of 1 to 64 paths"] = { "A", { subject = "id", fields = {} } },
    ["\"a..b\" is no path"] = { "A", { subject = "id", fields = { "a..b" } } },
    ["a path is a string of"] = { "A", { subject = "id", fields = { 1 } } },
    ["\"a\" and \"a.b\" overlap"] = { "A", { subject = "id", fields = { "a", "a.b" } } },
    ["subject is the path of the person's id"] = { "A", { fields = { "a" } } },
    ["without []"] = { "A", { subject = "ids[]", fields = { "a" } } },
    ["records of a process's journal cannot"] = { "ProcessStepCompleted",
      { subject = "id", fields = { "a" } } },
  } do
    it("says " .. says, function()
      local message = fault_of(unpack(args, 1, 2))
      assert.truthy(message:find(says, 1, true), message)
      assert.truthy(message:find("personal_key_spec.lua:%d+"), message)
    end)
  end

  it("is made once a type", function()
    local spec = { subject = "id", fields = { "a" } }
    local opened, err = testing.app(function()
      catga.personal("A", spec)
      catga.personal { A = spec }
    end)
    assert.is_nil(opened)
    local says = "personal data of A is declared already, at .*personal_key_spec"
    assert.truthy(err.message:find(says))
  end)

  it("belongs to loading", function()
    open()
    local ok, err = pcall(function()
      return app:call(catga.personal, "A", { subject = "id", fields = { "a" } })
    end)
    assert.is_false(ok)
    assert.truthy(tostring(err):find("belongs at the top level of a script", 1, true))
  end)

  it("may come with a reload", function()
    local script = 'local catga = require "catga"\n'
    local dir = app_dir.new { ["main.lua"] = script }
    local data = app_dir.new {}
    app = assert(testing.app(dir, { data = data }))
    assert(app:call(catga.events.append, "S", { { type = "A", data = { id = "1", a = "x" } } }))
    app_dir.write(dir, "main.lua", script
      .. 'catga.personal("A", { subject = "id", fields = { "a" } })\n')
    assert(app:call(function() return app.app:reload() end))
    assert(app:call(catga.events.append, "S", { { type = "A", data = { id = "1", a = SECRET } } }))
    assert(app:call(catga.forget, "1"))
    local events = app:call(catga.events.read, "S")
    assert.equal("x", events[1].data.a) -- What was stored in plain before stays.
    assert.equal(catga.null, events[2].data.a)
  end)
end)

describe("on the disk", function()
  local dir

  before_each(function() dir = app_dir.new {} end)

  local function reopen()
    app:stop()
    open { data = dir }
  end

  local function copy(from, to)
    local file = assert(io.open(dir .. "/" .. from, "rb"))
    local text = file:read("*a")
    file:close()
    app_dir.write(dir, to, text)
  end

  it("nothing is in plain but the key, and after forgetting not even that", function()
    open { data = dir, settings = { } }
    app.app.projections:stop() -- Its read model holds plain values.
    assert(app:call(catga.events.append, "Customer-7", { { type = "Registered",
      data = person("7") } }))
    app:stop()
    app = nil
    local file = assert(io.open(dir .. "/keys", "rb"))
    local bytes = file:read("*a")
    file:close()
    local key = bytes:sub(4096 + 77, 4096 + 108)
    assert.equal(32, #key)
    assert.is_nil(key:find(("\0"):rep(8), 1, true))
    os.execute(("rm -f '%s'/models.sqlite*"):format(dir))
    for _, text in ipairs { SECRET, STREET, PHONE } do assert.equal("", on_disk(dir, text)) end
    assert.equal(dir .. "/keys\n", on_disk(dir, "CATGAKEY"))
    app = assert(testing.app(function() end, { data = dir })) -- No declaration is needed to read.
    assert.equal(SECRET, read("7")[1].data.name)
    assert(app:call(catga.forget, "7"))
    app:stop()
    app = nil
    for name in io.popen(("find '%s' -type f"):format(dir)):lines() do
      local one = assert(io.open(name, "rb"))
      local text = one:read("*a")
      one:close()
      assert.is_nil(text:find(key, 1, true), name)
      assert.is_nil(text:find(SECRET, 1, true), name)
      if name:find("/keys$") then assert.is_nil(text:sub(4097):find("7", 129, true)) end
    end
  end)

  it("the file of keys is the owner's alone", function()
    open { data = dir }
    local pipe = io.popen(("stat -c %%a '%s/keys'"):format(dir))
    assert.equal("600", pipe:read("*l"))
    pipe:close()
  end)

  it("there is no file of keys without personal data", function()
    app = assert(testing.app(function() end, { data = dir }))
    assert(app:call(catga.events.append, "S", { { type = "A", data = {} } }))
    assert.is_nil(io.open(dir .. "/keys"))
    assert.is_nil(app.app.personal)
  end)

  it("events are readable after a restart, and forgotten ones stay so", function()
    open { data = dir }
    assert(app:send("Register", person("7")))
    assert(app:send("Register", person("8")))
    reopen()
    assert.equal(SECRET, read("7")[1].data.name)
    assert(app:call(catga.forget, "7"))
    reopen()
    assert.equal(catga.null, read("7")[1].data.name)
    assert.equal(SECRET, read("8")[1].data.name)
    local _, err = app:send("Register", person("7"))
    assert.equal("forgotten", err.code)
  end)

  it("an older file of keys does not bring anybody back", function()
    open { data = dir }
    assert(app:send("Register", person("7")))
    app:stop()
    copy("keys", "keys.older")
    open { data = dir }
    assert(app:send("Register", person("8"))) -- Has no key in the older file.
    assert(app:call(catga.forget, "7"))
    assert(app:call(catga.forget, "8"))
    assert(app:send("Register", person("9")))
    app:stop()
    copy("keys.older", "keys")
    open { data = dir }
    for _, id in ipairs { "7", "8" } do
      assert.equal(catga.null, read(id)[1].data.name)
      local _, err = app:send("Register", person(id))
      assert.equal("forgotten", err.code)
    end
    assert.truthy(table.concat(app.lines, "\n"):find("had come back with an older file of keys", 1,
      true))
    local ok, err = pcall(read, "9") -- Its key is lost: that is an error, not forgetting.
    assert.is_false(ok)
    assert.equal("corrupt", err.code)
    assert.truthy(err.message:find("bring back a backup", 1, true))
    reopen()
    assert.is_nil(table.concat(app.lines, "\n"):find("had come back", 1, true))
    assert.equal(catga.null, read("7")[1].data.name)
  end)

  it("a missing file of keys is an error that says so", function()
    open { data = dir }
    assert(app:send("Register", person("7")))
    app:stop()
    os.remove(dir .. "/keys")
    app = assert(testing.app(function() end, { data = dir }))
    local ok, err = pcall(read, "7")
    assert.is_false(ok)
    assert.truthy(err.message:find("there is no file " .. dir .. "/keys", 1, true))
  end)
end)

describe("an export", function()
  local transfer = require "catga.http.transfer"

  local function export()
    return app:call(function()
      local status, _, body = transfer.export(app.app, nil, { query = {} })
      assert.equal(200, status)
      return body
    end)
  end

  local function import(text, query)
    return app:call(function()
      local status, _, body = transfer.import(app.app, nil, { query = query or {}, headers = {},
        body = text })
      return status, body
    end)
  end

  it("holds nothing in plain, and is read where its keys are", function()
    local dir, other = app_dir.new {}, app_dir.new {}
    open { data = dir }
    assert(app:send("Register", person("7")))
    assert(app:send("Register", person("8")))
    assert(app:call(catga.forget, "8"))
    local text = export()
    for _, plain in ipairs { SECRET, STREET, PHONE } do
      assert.is_nil(text:find(plain, 1, true))
    end
    app:stop()

    open { data = other } -- Without the file of keys.
    local status, body = import(text)
    assert.equal(422, status)
    assert.truthy(body:find("is not in", 1, true))
    assert.equal(0, #read("7"))
    app:stop()

    assert(os.execute(("cp '%s/keys' '%s/keys'"):format(dir, other)))
    open { data = other }
    status, body = import(text, { stream = "Elsewhere" })
    assert.equal(422, status)
    assert.truthy(body:find("not encrypted with this key for this place", 1, true))
    assert.equal(200, (import(text)))
    assert.same(person("7"), read("7")[1].data)
    assert.equal(catga.null, read("8")[1].data.name)
    assert.equal("", on_disk(other .. "/log", SECRET))
    assert(app:call(catga.forget, "7"))
    assert.equal(catga.null, read("7")[1].data.name)
  end)
end)
