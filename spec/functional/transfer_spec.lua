--- Export and import as CloudEvents: round trips, repeated and broken imports, bad lines.
local testing = require "catga.testing"
local http = require "catga.http"
local cloud = require "catga.events.cloud"
local import_batch = require "catga.events.import".batch
local state = require "catga.state"
local catga = require "catga"

local apps = {}

local function open(define, opts)
  local app = assert(testing.app(define or function() end, opts))
  app.app.handling = 0
  apps[#apps + 1] = app
  return app
end

after_each(function()
  for i = #apps, 1, -1 do apps[i]:stop() end
  apps = {}
end)

local function request(app, method, path, query, body)
  return app:call(http.handle, app.app, method, path, query or {}, {}, body or "")
end

-- All lines of an export, page by page.
local function export(app, query, max)
  local lines, pages = {}, 0
  query = query or {}
  query.max = max and tostring(max)
  repeat
    local status, _, body, name, value = request(app, "GET", "/export", query)
    assert.equal(200, status, body)
    for line in body:gmatch("[^\n]+") do lines[#lines + 1] = line end
    query.after = name == "Catga-Next" and value or nil
    pages = pages + 1
  until not query.after or pages > 1000
  return lines, pages
end

local function import(app, lines, query)
  local status, _, body = request(app, "POST", "/import", query,
    type(lines) == "table" and table.concat(lines, "\n") or lines)
  return status, catga.json.decode(body)
end

local function fill(app)
  for n = 1, 30 do
    assert(app:call(catga.events.append, "Order-" .. n % 3, {
      { type = "OrderMade", data = { n = n, list = catga.json.array(), text = "ä\n\"" },
        id = "e" .. n },
      { type = "Noted", data = n % 2 == 0 and catga.null or n / 7 } }))
    app:advance("1m")
  end
  assert(app:call(catga.publish, "Said", { n = 1 }))
end

-- The documents without where they lie.
local function without_places(lines)
  local list = {}
  for i, line in ipairs(lines) do
    local document = assert(catga.json.decode(line))
    document.catgaposition, document.catgaversion = nil, nil
    list[i] = catga.json.encode(document)
  end
  return list
end

describe("an export", function()
  it("has a CloudEvent a line, in the order of positions", function()
    local app = open()
    fill(app)
    local lines = export(app)
    assert.equal(61, #lines)
    local document = catga.json.decode(lines[1])
    assert.equal("string", type(document.id))
    document.id = nil
    assert.same({ specversion = "1.0", type = "OrderMade", subject = "Order-1",
      source = "urn:catga:log:" .. ("0"):rep(32), time = "2026-01-01T00:00:00.000Z",
      datacontenttype = "application/json", data = { n = 1, list = {}, text = "ä\n\"" },
      catgaposition = "1", catgaversion = "0", catgametadata = '{"event_id":"e1"}' }, document)
    assert.truthy(lines[61]:find('"subject":"$type-Said"', 1, true))
  end)

  for max = 1, 7 do
    it("is the same in pages of " .. max, function()
      local app = open()
      fill(app)
      local lines, pages = export(app, nil, max)
      assert.same(export(app), lines)
      assert.is_true(pages >= 61 / max)
    end)
  end

  it("takes only what is asked for", function()
    local app = open()
    fill(app)
    assert.equal(20, #export(app, { stream = "Order-1" }))
    assert.equal(60, #export(app, { category = "Order" }, 7))
    assert.equal(30, #export(app, { types = "Noted" }))
    assert.equal(31, #export(app, { types = "Noted,Said" }, 5))
    assert.equal(30, #export(app, { type_prefix = "Order" }))
    assert.equal(4, #export(app, { until_time = "2026-01-01T00:01:30Z" }))
    assert.equal(9, #export(app, { to = "9" }, 2))
    assert.equal(2, #export(app, { after = "7", to = "9" }))
    assert.truthy(export(app, { source = "/shop" })[1]:find('"source":"/shop"', 1, true))
  end)

  it("of a filter that lets little through goes on where it has looked", function()
    local app = open()
    for n = 1, 500 do
      assert(app:call(catga.events.append, "S", { { type = n % 250 == 0 and "Rare" or "Common" } }))
    end
    assert.equal(2, #export(app, { types = "Rare" }, 1))
  end)

  it("says what is wrong with a request", function()
    local app = open()
    for _, query in ipairs { { after = "x" }, { max = "0" }, { max = "10001" },
      { until_time = "x" } } do
      assert.equal(400, (request(app, "GET", "/export", query)))
    end
    assert.equal(404, (request(app, "GET", "/export/other")))
    local status, _, body = request(app, "GET", "/export/end")
    assert.equal(200, status)
    assert.equal('{"position":0}', body)
  end)
end)

describe("an import", function()
  it("of an export gives the same export again", function()
    local app = open()
    fill(app)
    local lines = export(app)
    local other = open(nil, { start = 1800000000000 })
    local status, result = import(other, lines)
    assert.equal(200, status)
    assert.same({ imported = 61, repeated = 0, bad = {}, bad_count = 0 }, result)
    local again = export(other)
    assert.same(without_places(lines), without_places(again))
    for i, line in ipairs(again) do
      assert.equal(catga.json.decode(lines[i]).catgaversion, catga.json.decode(line).catgaversion)
    end
    local third = open()
    import(third, again)
    assert.same(without_places(lines), without_places(export(third)))
  end)

  for _, part in ipairs { "data", "note" } do
    it("tells of a line that is too large in its " .. part .. ", and stores nothing", function()
      local app = open(nil, { settings = { message_size_max = "2KiB" } })
      local document = { specversion = "1.0", id = "1", source = "/a", type = "T", subject = "S",
        [part] = ("x"):rep(2100) }
      local line = catga.json.encode(document)
      local status, problem = import(app, { line })
      assert.equal(422, status)
      assert.truthy(problem.detail:find("message_size_max", 1, true))
      local _, result = import(app, { line }, { skip_bad = "1" })
      assert.equal(1, result.bad_count)
      assert.same({}, export(app))
    end)
  end

  it("takes only what is taken from its export, too, which has a time", function()
    local app = open(nil, { settings = { message_size_max = "2KiB" } })
    local other = open(nil, { settings = { message_size_max = "2KiB" } })
    local refused = 0
    for size = 1850, 2000 do
      local _, result = import(app, catga.json.encode { specversion = "1.0", id = size .. "",
        source = "/a", type = "T", subject = "S", note = ("x"):rep(size) }, { skip_bad = "1" })
      refused = refused + result.bad_count
    end
    assert.is_true(refused > 10 and refused < 140, refused)
    local lines = export(app)
    local status, result = import(other, lines)
    assert.equal(200, status)
    assert.equal(151 - refused, result.imported)
    assert.same(without_places(lines), without_places(export(other)))
  end)

  it("keeps ids, so that an append of the same id is known", function()
    local app, other = open(), open()
    fill(app)
    import(other, (export(app)))
    assert.same({ version = 0, repeated = true }, other:call(catga.events.append, "Order-1",
      { { type = "OrderMade", data = {}, id = "e1" } }))
  end)

  it("may be done again, from any place, also after a kill at every position", function()
    local app = open()
    fill(app)
    local lines = export(app)
    local batches = {}
    for i = 1, #lines, 10 do
      batches[#batches + 1] = { unpack(lines, i, math.min(i + 9, #lines)) }
    end
    local other = open()
    for _, batch in ipairs(batches) do import(other, batch) end
    local whole = without_places(export(other))
    assert.same(without_places(lines), whole)
    for _, position in ipairs { 1, 2, 20, 21, 22, 60, 100, other:position() } do
      local after = open(nil, { memory = other:snapshot(position) })
      local before, imported, repeated = #export(after), 0, 0
      for _, batch in ipairs(batches) do
        local _, result = import(after, batch)
        imported, repeated = imported + result.imported, repeated + result.repeated
      end
      assert.equal(before, repeated)
      assert.equal(61 - before, imported)
      assert.same(whole, without_places(export(after)))
    end
  end)

  it("of the same lines twice in a batch, or in two tasks, stores them once", function()
    local app, other = open(), open()
    fill(app)
    local lines = export(app)
    for i = 1, 61 do lines[61 + i] = lines[i] end
    local _, result = import(other, lines)
    assert.equal(61, result.imported)
    assert.equal(61, result.repeated)
    assert.equal(61, #export(other))
  end)

  it("of two units at the same time stores each event once", function()
    local app = open()
    fill(app)
    local lines = export(app)
    local other = open(function()
      catga.command("Import", function()
        local result = assert(import_batch(state[1].app, lines, {}))
        catga.sleep("10ms")
        return result
      end)
    end)
    local results = other:call(function()
      return catga.map({ 1, 2 }, function() return other.app.mediator:send("command", "Import") end)
    end)
    assert.equal(61, results[1].imported)
    assert.equal(61, results[2].repeated)
    assert.equal(61, #export(other))
  end)

  it("calls no handler, but readers by position see it", function()
    local app = open()
    fill(app)
    local seen = 0
    local other = open(function()
      catga.on("OrderMade", function() seen = seen + 1 end)
      local count = catga.projection "Count"
      function count.on.OrderMade(_, model)
        model:update("all", function(doc) doc.n = (doc.n or 0) + 1 end)
      end
    end)
    import(other, (export(app)))
    other:settle()
    assert.equal(0, seen)
    assert.equal(30, other:document("Count", "all").n)
  end)

  it("keeps a foreign document as it is", function()
    local app = open()
    local lines = {
      '{"data_base64":"AAEC","datacontenttype":"image/png","id":"1","source":"/cam",'
        .. '"specversion":"1.0","subject":"Cam-1","time":"2026-02-03T04:05:06+01:00",'
        .. '"traceparent":"00-ab","type":"Shot"}',
      '{"data":"<a/>","datacontenttype":"text/xml","id":"2","sequence":7,"source":"/cam",'
        .. '"specversion":"1.0","subject":"Cam-1","time":"2026-02-03T04:05:06Z","type":"Shot"}',
      '{"data":[1,2.5,null],"datacontenttype":"application/json","id":"3","source":"/cam",'
        .. '"specversion":"1.0","subject":"Cam-2","time":"2026-02-03T04:05:06Z","type":"Shot"}',
    }
    assert.equal(200, (import(app, lines)))
    assert.same(lines, without_places(export(app)))
    assert.equal(200, (import(app, { '{"specversion":"1.0","id":"4","source":"/x","type":"T"}' },
      { stream = "All" })))
    assert.equal(200, (import(app, { '{"specversion":"1.0","id":"5","source":"/x","type":"T"}' },
      { field = "type" })))
    assert.equal(1, #app:call(catga.events.read, "All"))
    assert.equal(1, #app:call(catga.events.read, "T"))
  end)

  local good = '{"specversion":"1.0","id":"1","source":"/x","type":"T","subject":"S"}'

  -- A document with other members, or with one more.
  local function with(text)
    local name = text:match('^"(.-)":')
    local line, count = good:gsub('"' .. name .. '":".-"', (text:gsub("%%", "%%%%")))
    return count == 1 and line or good:sub(1, -2) .. "," .. text .. "}"
  end

  for line, fault in pairs {
    ["{"] = "line 1", ["7"] = "it is no JSON object", ["[]"] = "it is no JSON object",
    [with '"specversion":"0.3"'] = 'specversion must be "1.0"',
    [with '"specversion":null'] = "specversion must",
    [with '"id":null'] = "id must be a string", [with '"id":""'] = "id must be a string of 1",
    [with '"source":5'] = "source must be a string",
    [with('"type":"' .. ("t"):rep(257) .. '"')] = "type must", [with '"subject":""'] = "no subject",
    [with '"subject":"$metadata-x"'] = "own", [with '"subject":"Process-x"'] = "own",
    [with('"subject":"' .. ("s"):rep(1025) .. '"')] = "1 to 1024 bytes",
    [with '"subject":7'] = "subject must be a string",
    [with '"time":"x"'] = "time must", [with '"time":5'] = "time must",
    [with '"A":5'] = "lower-case", [with '"a":{}'] = "attribute a must be a string",
    [with '"data":1,"data_base64":"a"'] = "it has data and data_base64",
    [with '"catgametadata":"5"'] = "catgametadata must be the text",
    [with '"catgametadata":"[]"'] = "catgametadata must be the text",
    [with '"catgametadata":"{"'] = "catgametadata must be the text",
    [with '"catgametadata":"{\\"schema\\":-1}"'] = "schema must be a version",
    [with '"catgapersonal":1'] = "catgapersonal must be true", [with '"b":1,"b":2'] = "b",
    [with '"data":9007199254740993'] = "2^53",
  } do
    it("refuses " .. line:sub(1, 90), function()
      local app = open()
      local status, problem = import(app, { good, line })
      assert.equal(422, status)
      assert.equal(2, problem.line)
      assert.truthy(problem.detail:find(fault, 1, true), problem.detail)
      assert.equal(1, app:position())
      local result
      status, result = import(app, { good, "", line }, { skip_bad = "1" })
      assert.equal(200, status)
      assert.equal(1, result.imported)
      assert.equal(1, result.bad_count)
      assert.equal(3, result.bad[1].line)
    end)
  end

  it("into a stream that was deleted for good names the line, or leaves it out", function()
    local from, app = open(), open()
    fill(from)
    local lines = export(from)
    assert(app:call(catga.events.append, "Order-1", { { type = "A" } }))
    assert(app:call(catga.events.delete, "Order-1", { hard = true }))
    local status, problem = import(app, lines)
    assert.equal(410, status)
    assert.equal("deleted", problem.code)
    assert.equal(1, problem.line)
    local result
    for _, count in ipairs { 41, 0 } do
      status, result = import(app, lines, { skip_bad = "1" })
      assert.equal(200, status)
      assert.equal(count, result.imported)
      assert.equal(20, result.bad_count)
      assert.equal(1, result.bad[1].line)
      assert.truthy(result.bad[1].message:find("Order-1 was deleted for good", 1, true))
    end
  end)

  it("of random damage to good lines never raises, and what it takes can be exported", function()
    local app = open()
    fill(app)
    local lines = export(app)
    math.randomseed(7)
    local bytes = { "\0", "\"", "{", "}", "[", "]", ",", ":", "\\", "\200", "1", "null", "\n" }
    local taken = 0
    for _ = 1, 3000 do
      local line = lines[math.random(#lines)]
      for _ = 1, math.random(3) do
        local place, long = math.random(#line), math.random(0, 4)
        line = line:sub(1, place - 1) .. bytes[math.random(#bytes)] .. line:sub(place + long)
      end
      for one in line:gmatch("[^\n]+") do
        local event, err = cloud.parse(one)
        assert.is_true(event ~= nil or err.code == "invalid" or err.code == "limit")
        if event then taken = taken + 1 end
      end
      local status = import(app, line, { skip_bad = "1" })
      assert.equal(200, status)
    end
    assert.is_true(taken > 100)
    assert.is_true(#export(app) > 61)
  end)

  it("keeps personal fields encrypted, and takes them only where their keys are", function()
    local function define()
      catga.personal("Known", { subject = "id", fields = { "name" } })
    end
    local app = open(define)
    assert(app:call(catga.events.append, "Person-1",
      { { type = "Known", data = { id = "p1", name = "Ada" } } }))
    local lines = export(app)
    assert.is_nil(lines[1]:find("Ada", 1, true))
    assert.truthy(lines[1]:find('"catgapersonal":true', 1, true))
    for _, other in ipairs { open(), open(define) } do
      local status, problem = import(other, lines)
      assert.equal(422, status)
      assert.truthy(problem.detail:find("key", 1, true), problem.detail)
    end
    local status, problem = import(app, lines, { stream = "Person-2" })
    assert.equal(422, status)
    assert.truthy(problem.detail:find("personal data", 1, true), problem.detail)
    assert.equal(200, (import(app, lines)))
    for i, event in ipairs(app:call(catga.events.read, "Person-1")) do
      assert.equal(i - 1, event.version)
      assert.same({ id = "p1", name = "Ada" }, event.data)
    end
    assert.equal(2, #export(app))
    assert.is_nil(table.concat(export(app)):find("Ada", 1, true))
  end)

  it("takes no more lines at once than its bound", function()
    assert.equal(413, (import(open(), ("\n"):rep(10001))))
    assert.equal(400, (import(open(), good, { field = "id" })))
  end)
end)
