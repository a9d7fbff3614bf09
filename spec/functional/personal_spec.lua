--- Personal data: what is stored, what each reader sees, and forgetting.
local testing = require "catga.testing"
local catga = require "catga"
local people = dofile "spec/support/people.lua"

local SECRET = people.SECRET
local person = people.person

local app

local function open(opts)
  people.delivered = {}
  app = assert(testing.app(people.define, opts))
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function raw_key(id)
  local store = app.app.store
  return store:read(store:stream("Customer-" .. id), 0, 1)[1].data["$personal"].key
end

local function forgotten_count()
  local store = app.app.store
  local stream = store:stream("$personal-forgotten")
  return stream and store:count(stream) or 0
end

local function read(id, opts) return app:call(catga.events.read, "Customer-" .. id, opts) end

describe("personal fields", function()
  it("are plain for every reader, and encrypted in the log", function()
    open()
    local seen = assert(app:send("Register", person("7")))
    assert.same(person("7"), seen[1].data) -- In the unit, before the commit.
    assert.same({ person("7") }, people.delivered)
    local event = read("7")[1]
    assert.same(person("7"), event.data)
    assert.equal(raw_key("7"), event.personal)
    local all = app:call(catga.events.read_all)
    assert.same(person("7"), all[1].data)
    assert.same({ name = SECRET, city = "London" }, app:document("People", "7"))
    local store = app.app.store
    local raw = store:read(store:stream("Customer-7"), 0, 1)[1].data
    assert.same("7", raw.customer_id)
    assert.equal(catga.null, raw.name)
    assert.same({ street = catga.null, city = "London" }, raw.address)
    assert.same({ { kind = "mobile", phone = catga.null }, { kind = "none" } }, raw.contacts)
    assert.same({ "name", "address.street", "contacts[1].phone" }, raw["$personal"].paths)
  end)

  it("are null where they are null, and need no subject when there are none", function()
    open()
    local bare = { customer_id = catga.null, name = catga.null, address = {} }
    assert(app:call(catga.events.append, "Customer-8", { { type = "Registered", data = bare } }))
    local event = read("8")[1]
    assert.same(bare, event.data)
    assert.is_nil(event.personal)
    assert.same({}, app:call(catga.subjects))
  end)

  it("keep the other types as they are", function()
    open()
    assert(app:call(catga.events.append, "Customer-8",
      { { type = "Moved", data = { ["$personal"] = 1, name = "x" } } }))
    assert.same({ ["$personal"] = 1, name = "x" }, read("8")[1].data)
  end)

  for what, case in pairs {
    ["no subject"] = { { name = SECRET }, "customer_id gives no subject" },
    ["a subject that is empty"] = { { name = SECRET, customer_id = "" }, "gives no subject" },
    ["a subject that is too long"] = { { name = SECRET, customer_id = ("x"):rep(129) },
      "gives no subject" },
    ["a subject that is a table"] = { { name = SECRET, customer_id = {} }, "gives no subject" },
    ["a value where an object must be"] = { { customer_id = "1", address = SECRET },
      "address is no object" },
    ["an object where a list must be"] = { { customer_id = "1", contacts = { phone = SECRET } },
      "contacts is no list" },
    ["a value in the list"] = { { customer_id = "1", contacts = { SECRET } },
      "contacts[1] is no object" },
    ["data that is a text"] = { SECRET, "its data is no object" },
    ["data that is a list"] = { { SECRET }, "its data is no object" },
    ["the runtime's own field"] = { { customer_id = "1", name = SECRET, ["$personal"] = {} },
      "the field $personal is the runtime's own" },
  } do
    it("refuse " .. what .. ", without telling a value", function()
      open()
      local ok, err = app:call(catga.events.append, "Customer-1",
        { { type = "Registered", data = case[1] } })
      assert.is_nil(ok)
      assert.equal("invalid", err.code)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
      assert.is_nil(err.message:find(SECRET, 1, true))
      assert.equal(1, app:position())
    end)
  end

  it("may be of a subject that a function finds, or a number", function()
    app = assert(testing.app(function()
      catga.personal { Noted = { subject = function(data) return data.who.id end,
        fields = { "who.id", "lines[][]" } } }
    end))
    local data = { who = { id = 42 }, lines = { { "a", catga.null }, {}, { SECRET } } }
    assert(app:call(catga.events.append, "Notes", { { type = "Noted", data = data } }))
    local store = app.app.store
    assert.is_nil(catga.json.encode(store:read(store:stream("Notes"), 0, 1)[1].data)
      :find(SECRET, 1, true))
    local event = app:call(catga.events.read, "Notes")[1]
    data.lines[2] = {}
    assert.same(data, event.data)
    assert.equal("42", app:call(catga.subjects)[1].subject)
    assert(app:call(catga.forget, 42))
    event = app:call(catga.events.read, "Notes")[1]
    assert.same({ "who.id", "lines[1][1]", "lines[3][1]" }, event.forgotten)
    assert.equal(catga.null, event.data.who.id)
  end)

  it("are bound to their event: what was moved or changed is an error that tells where", function()
    open()
    assert(app:send("Register", person("7")))
    local store = app.app.store
    local raw = catga.json.encode(store:read(store:stream("Customer-7"), 0, 1)[1].data)
    local function put(stream, kind, json)
      app:call(function()
        local number = store:stream(stream, true)
        store:begin()
        assert(store:add(number, -1, kind, json, nil, 16))
        local _, after = assert(store:commit())
        assert(store:wait(after - 1))
      end)
    end
    put("Copy-1", "Registered", raw)                  -- Another stream.
    put("Customer-7", "Renamed", raw)                 -- Another type.
    put("Customer-9", "Registered", (raw:gsub('"address.street"', '"address.strees"')))
    put("Customer-10", "Registered", (raw:gsub('"key":"1%-', '"key":"2-')))
    put("Customer-11", "Registered", (raw:gsub('"key":"1%-', '"key":"x')))
    put("Customer-12", "Registered", '{"name":null}')
    put("Customer-13", "Registered", '[1]')
    local function fault(stream, from)
      local ok, err = pcall(function()
        return app:call(catga.events.read, stream, { from = from })
      end)
      assert.is_false(ok)
      assert.equal("corrupt", err.code)
      local where = ("(stream %s, version %d)"):format(stream, from or 0)
      assert.truthy(err.message:find(where, 1, true))
      assert.is_nil(err.message:find(SECRET, 1, true))
      return err.message
    end
    assert.truthy(fault("Copy-1"):find("at position 2 ", 1, true))
    assert.truthy(fault("Copy-1"):find("name, address.street, contacts[1].phone", 1, true))
    fault("Customer-7", 1)
    fault("Customer-9")
    assert.truthy(fault("Customer-10"):find("key 2 is not in", 1, true))
    assert.truthy(fault("Customer-11"):find("the name of the key is damaged", 1, true))
    assert.truthy(fault("Customer-12"):find("$personal is missing", 1, true))
    fault("Customer-13")
    -- Every bit of the sealed text.
    local sealed = raw:match('"sealed":"([^"]+)"')
    for at = 1, #sealed do
      for power = 0, 7 do
        local changed = bit.bxor(sealed:byte(at), bit.lshift(1, power))
        local text = sealed:sub(1, at - 1) .. string.char(changed) .. sealed:sub(at + 1)
        local event = { type = "Registered", stream = "Customer-7", position = 1, version = 0,
          personal = true, data = catga.json.decode(raw) }
        event.data["$personal"].sealed = text
        local ok, err = pcall(require("catga.personal").unseal, app.app, event)
        assert.is_false(ok, ("bit %d of byte %d"):format(power, at))
        assert.equal("corrupt", err.code)
      end
    end
  end)
end)

describe("forgetting", function()
  it("makes the fields null for every reader; the others stay", function()
    open()
    assert(app:send("Register", person("7")))
    assert(app:send("Register", person("8")))
    local result = assert(app:call(catga.forget, "7"))
    assert.same({ "People" }, result.projections)
    local event = read("7")[1]
    assert.same({ customer_id = "7", name = catga.null,
      address = { street = catga.null, city = "London" },
      contacts = { { kind = "mobile", phone = catga.null }, { kind = "none" } } }, event.data)
    assert.same({ "name", "address.street", "contacts[1].phone" }, event.forgotten)
    local all = app:call(catga.events.read_all)
    assert.equal(2, #all) -- The record of the act is not shown.
    assert.equal(catga.null, all[1].data.name)
    assert.same(person("8"), all[2].data)
    assert.equal(1, forgotten_count())
    assert.same({ "8" }, { app:call(catga.subjects)[1].subject })
    assert.is_nil(app:call(catga.subjects)[2])
    local listed = app:call(catga.subjects, { forgotten = true })
    assert.is_true(listed[1].forgotten)
    assert.is_nil(listed[1].subject)
  end)

  it("lets a read model built anew see null", function()
    open()
    assert(app:send("Register", person("7")))
    assert.equal(SECRET, app:document("People", "7").name)
    assert(app:call(catga.forget, "7"))
    app = assert(app:crash()) -- Its models were in memory.
    local doc = app:document("People", "7")
    assert.equal(catga.null, doc.name)
    assert.equal("London", doc.city)
    assert.same({ "name", "address.street", "contacts[1].phone" }, doc.forgotten)
  end)

  it("lets durable handlers see null that come to the event later", function()
    local seen = {}
    open()
    assert(app:send("Register", person("7")))
    assert(app:send("Register", person("8")))
    assert(app:call(catga.forget, "7"))
    app = assert(app:crash(nil, function()
      people.define()
      catga.on("Registered", { durable = "mailer" }, function(event)
        seen[#seen + 1] = event
      end)
    end))
    app:settle()
    assert.equal(2, #seen)
    assert.equal(catga.null, seen[1].name)
    assert.equal("London", seen[1].address.city)
    assert.same(person("8"), seen[2])
  end)

  it("is not undone by an upcaster, which gets null too", function()
    open()
    assert(app:send("Register", person("7")))
    assert(app:send("Register", person("8")))
    assert(app:call(catga.forget, "7"))
    app = assert(app:crash(nil, function()
      people.define()
      catga.upcast("Registered", 1, function(data)
        data.label = data.name == catga.null and "nobody" or data.name
        return data, "Enrolled"
      end)
    end))
    local events = app:call(catga.events.read_all, { types = { "Enrolled" } })
    assert.equal("nobody", events[1].data.label)
    assert.equal(SECRET, events[2].data.label) -- Decrypted first, though the type has changed.
  end)

  it("refuses new personal data of the person", function()
    open()
    assert(app:send("Register", person("7")))
    assert(app:call(catga.forget, "7"))
    local ok, err = app:send("Register", person("7"))
    assert.is_nil(ok)
    assert.equal("forgotten", err.code)
    assert.is_nil(err.message:find(SECRET, 1, true))
    assert(app:send("Register", { customer_id = "7", address = { city = "Paris" } }))
  end)

  it("gives a new key instead when the settings allow it", function()
    open { settings = { forgotten_subjects = "allow" } }
    assert(app:send("Register", person("7")))
    assert(app:call(catga.forget, "7"))
    assert(app:send("Register", person("7")))
    local events = read("7")
    assert.equal(catga.null, events[1].data.name)
    assert.same(person("7"), events[2].data)
    assert(app:call(catga.forget, "7"))
    assert.equal(catga.null, read("7")[2].data.name)
    assert.equal(2, forgotten_count())
  end)

  it("a second time does nothing, and of somebody unknown says so", function()
    open()
    local result, err = app:call(catga.forget, "7")
    assert.is_nil(result)
    assert.equal("not_found", err.code)
    assert(app:send("Register", person("7")))
    local first = assert(app:call(catga.forget, "7"))
    assert.same(first, assert(app:call(catga.forget, "7")))
    assert.equal(1, forgotten_count())
    assert.has_error(function() app:call(catga.forget, {}) end)
    assert.has_error(function() app:call(catga.forget, "") end)
  end)

  it("holds when the unit of work in which it is asked for fails", function()
    open()
    assert(app:send("Register", person("7")))
    app:call(function()
      app.app.registry.handlers.Register.run = function()
        assert(catga.forget("7"))
        error("oh no")
      end
    end)
    assert.is_nil((app:send("Register", {})))
    assert.equal(catga.null, read("7")[1].data.name)
  end)

  it("is refused in the body of a process", function()
    app = assert(testing.app(function()
      local P = catga.process "P"
      function P.execute(_, _) catga.forget("7") end
    end))
    local _, err = app:run("P", { id = "1" })
    assert.truthy(err.message:find("forget in a step", 1, true))
  end)

  it("is over also when the data were staged before and committed after", function()
    open()
    assert(app:send("Register", person("7")))
    app:call(function()
      local unit = require("catga.unit").of(require("catga.state")[1])
      assert(unit:append("Customer-7", { { type = "Registered", data = person("7") } }))
      assert(catga.forget("7"))
      require("catga.state")[1].unit = nil
      assert(unit:commit())
    end)
    assert.equal(catga.null, read("7")[2].data.name)
  end)
end)

describe("snapshots of aggregates", function()
  local stored, app_person

  local function with_snapshots()
    stored = {}
    catga.personal("Named", { subject = "id", fields = { "name" } })
    local Person = catga.aggregate "Person"
    app_person = Person
    function Person.initial() return { names = {} } end
    function Person.apply.Named(self_state, event)
      self_state.names[#self_state.names + 1] = event.name
    end
    function Person:rename(id, name) self:raise("Named", { id = id, name = name }) end
    local memory = catga.aggregate.memory_snapshots()
    Person.snapshot = { every = 2, store = { get = memory.get, drop = memory.drop,
      put = function(name, id, snapshot)
        stored[#stored + 1] = catga.json.encode(snapshot)
        memory.put(name, id, snapshot)
      end } }
    catga.command("Rename", function(cmd)
      return Person.update(cmd.id, function(one)
        for _ = 1, cmd.times or 1 do one:rename(cmd.subject or cmd.id, SECRET) end
        return one.version
      end)
    end)
    catga.query("Names", function(query) return Person.load(query.id).state.names end)
  end

  it("are encrypted with the key of the person, and end with it", function()
    app = assert(testing.app(with_snapshots))
    for _ = 1, 5 do assert(app:send("Rename", { id = "7" })) end
    app:settle()
    assert.is_true(#stored >= 2)
    for _, text in ipairs(stored) do assert.is_nil(text:find("Lovelace", 1, true)) end
    assert.same({ SECRET, SECRET, SECRET, SECRET, SECRET }, app:ask("Names", { id = "7" }))
    local reads = 0
    local read_stored = app.app.personal
    app.app.personal = setmetatable({}, { __index = function(_, name)
      return function(_, ...)
        if name == "unseal" then reads = reads + 1 end
        return read_stored[name](read_stored, ...)
      end
    end })
    app:ask("Names", { id = "7" })
    assert.is_true(reads >= 1 and reads <= 2) -- The snapshot, and at most one event after it.
    app.app.personal = read_stored
    assert(app:call(catga.forget, "7"))
    assert.same({ catga.null, catga.null, catga.null, catga.null, catga.null },
      app:ask("Names", { id = "7" }))
    local before = #stored
    app.app.settings.forgotten_subjects = "allow"
    for _ = 1, 4 do assert(app:send("Rename", { id = "7" })) end
    app:settle()
    assert.is_true(#stored > before)
    assert.equal(SECRET, app:ask("Names", { id = "7" })[9])
    assert.equal(catga.null, app:ask("Names", { id = "7" })[5])
  end)

  it("are encrypted also when the data is only staged in the unit", function()
    app = assert(testing.app(function()
      with_snapshots()
      catga.command("Twice", function(cmd)
        assert(catga.send("Rename", { id = cmd.id }))
        return catga.send("Touch", { id = cmd.id })
      end)
      local Person = app_person
      function Person.apply.Touched() end
      function Person:touch() self:raise("Touched", {}) end
      catga.command("Touch", function(cmd)
        return Person.update(cmd.id, function(one)
          one:touch()
          return one.version
        end)
      end)
    end))
    assert(app:send("Twice", { id = "7" }))
    app:settle()
    assert.equal(1, #stored)
    assert.is_nil(stored[1]:find("Lovelace", 1, true))
  end)

  it("are encrypted also when the unit goes on with data of another person", function()
    app = assert(testing.app(function()
      with_snapshots()
      catga.command("Both", function(cmd)
        local one = app_person.load(cmd.id)
        for _, subject in ipairs { "a", "b" } do
          for _ = 1, 2 do one:rename(subject, SECRET) end
          assert(one:save())
        end
        return true
      end)
    end))
    assert(app:send("Both", { id = "7" }))
    app:settle()
    assert.equal(1, #stored)
    assert.is_nil(stored[1]:find("Lovelace", 1, true))
    assert.same({ SECRET, SECRET, SECRET, SECRET }, app:ask("Names", { id = "7" }))
  end)

  it("are passed over when they no longer name their key", function()
    app = assert(testing.app(with_snapshots))
    assert(app:send("Rename", { id = "7", times = 2 }))
    app:settle()
    local memory = app_person.snapshot.store
    local snapshot = memory.get("Person", "7", 100)
    assert.is_string(snapshot.key)
    snapshot.key = nil
    assert.same({ SECRET, SECRET }, app:ask("Names", { id = "7" }))
  end)

  it("are not taken of data of several persons", function()
    app = assert(testing.app(with_snapshots))
    assert(app:send("Rename", { id = "7", subject = "a" }))
    assert(app:send("Rename", { id = "7", subject = "b", times = 5 }))
    app:settle()
    assert.same({}, stored)
    assert.truthy(table.concat(app.lines, "\n"):find("personal data of several persons", 1, true))
    assert.equal(6, #app:ask("Names", { id = "7" }))
  end)
end)

describe("what a person may ask for", function()
  it("is every event with personal data of theirs, page by page", function()
    open()
    for i = 1, 5 do
      assert(app:send("Register", person("7")))
      assert(app:send("Register", person("8-" .. i)))
    end
    assert(app:send("Register", { customer_id = "9" })) -- Without personal fields.
    local cursor = app.app.store:cursor(0, { personal = true })
    assert.equal(10, #cursor:next(100))
    cursor:close()
    local events, after = app:call(catga.subject_events, "7", { max = 2 })
    assert.equal(2, #events)
    assert.same(person("7"), events[1].data)
    local count = #events
    while after do
      events, after = app:call(catga.subject_events, "7", { max = 2, after = after })
      count = count + #events
    end
    assert.equal(5, count)
    assert(app:call(catga.forget, "7"))
    local none, err = app:call(catga.subject_events, "7")
    assert.is_nil(none)
    assert.equal("forgotten", err.code)
    local names = {}
    local list
    after = nil
    repeat
      list, after = app:call(catga.subjects, { prefix = "8-", max = 2, after = after })
      for _, one in ipairs(list) do names[#names + 1] = one.subject end
    until not after
    assert.equal("8-1 8-2 8-3 8-4 8-5", table.concat(names, " "))
  end)
end)
