--- Paths of personal fields: syntax, and that what is taken out is put back.
local paths = require "catga.personal_path"
local json = require "catga.native.json"

describe("a path", function()
  for text, expected in pairs {
    ["name"] = { "name" }, ["address.street"] = { "address", "street" },
    ["contacts[].phone"] = { "contacts", true, "phone" }, ["tags[]"] = { "tags", true },
    ["grid[][]"] = { "grid", true, true }, ["Straße.nr 1"] = { "Straße", "nr 1" },
    ["1.2"] = { "1", "2" },
  } do
    it(text .. " is one", function()
      local path = assert(paths.compile(text))
      local found = {}
      for i = 1, #path do found[i] = path[i] end
      assert.same(expected, found)
      assert.equal(text:find("[]", 1, true) ~= nil, path.has_lists)
    end)
  end

  for _, text in ipairs { "", ".", "a.", ".a", "a..b", "[]", "[].a", "a[", "a]", "a[1]", "a][",
    "a[]b", "a[[]]", "a[].[]", "a\nb", "$personal", "a.$personal", ("a"):rep(257),
    ("a."):rep(40) .. "a" } do
    it(("%q is none"):format(text:sub(1, 20)), function()
      local path, fault = paths.compile(text)
      assert.is_nil(path)
      assert.equal("string", type(fault))
    end)
  end

  it("that is no text is none", function()
    for _, value in ipairs { 1, true, {}, print } do assert.is_nil((paths.compile(value))) end
    assert.is_nil((paths.compile(nil)))
  end)

  it("is compiled or refused whatever the text, and never raises", function()
    math.randomseed(7)
    local letters = { "a", "b", ".", "[", "]", "[]", "$", "\0", "\255", "ß", " ", "1" }
    local good = 0
    for _ = 1, 20000 do
      local parts = {}
      for i = 1, math.random(0, 8) do parts[i] = letters[math.random(#letters)] end
      local text = table.concat(parts)
      local path, fault = paths.compile(text)
      if path then
        good = good + 1
        local again = {}
        for i = 1, #path do
          again[#again + 1] = path[i] == true and "[]" or (i > 1 and "." or "") .. path[i]
        end
        assert.equal(text, table.concat(again))
      else
        assert.equal("string", type(fault))
      end
    end
    assert.is_true(good > 1000)
  end)

  it("overlaps with what it leads into, and with nothing else", function()
    local function overlap(a, b)
      local found = paths.overlap(assert(paths.compile(a)), assert(paths.compile(b)))
      assert.equal(found, paths.overlap(assert(paths.compile(b)), assert(paths.compile(a))))
      return found
    end
    assert.is_true(overlap("a", "a"))
    assert.is_true(overlap("a", "a.b"))
    assert.is_true(overlap("a[]", "a[].b"))
    assert.is_true(overlap("a", "a[]"))
    assert.is_false(overlap("a", "ab"))
    assert.is_false(overlap("a.b", "a.c"))
    assert.is_false(overlap("a[].b", "a[].c"))
  end)
end)

describe("taking and putting back", function()
  -- A value of objects, lists and texts, at most `depth` deep.
  local function random_value(depth)
    local kind = math.random(depth > 0 and 4 or 2)
    if kind == 1 then return "text" .. math.random(9) end
    if kind == 2 then return math.random() < 0.5 and json.null or math.random(100) end
    local value = kind == 3 and json.array() or {}
    for i = 1, math.random(0, 3) do
      local key = kind == 3 and i or ("abc"):sub(i, i)
      value[key] = random_value(depth - 1)
    end
    return value
  end

  it("gives the same data, for any path through any data", function()
    math.randomseed(11)
    local taken, refused = 0, 0
    for _ = 1, 5000 do
      local text = ({ "a", "b", "c" })[math.random(3)]
      for _ = 1, math.random(0, 3) do
        text = text .. ({ ".a", ".b", "[]", "[].c" })[math.random(4)]
      end
      local data = { a = random_value(3), b = random_value(3), c = random_value(3) }
      local before = json.encode(data)
      local copy = json.decode(before)
      local places, values = {}, {}
      if paths.take(copy, assert(paths.compile(text)), places, values) then
        refused = refused + 1
      else
        taken = taken + #places
        for i = 1, #places do assert.is_true(paths.put(copy, places[i], values[i])) end
        assert.equal(before, json.encode(copy))
      end
    end
    assert.is_true(taken > 500 and refused > 500)
  end)

  it("puts nothing where there is no place", function()
    local data = { a = json.null, b = { json.null }, c = "x" }
    for _, place in ipairs { "", "c", "d", "a.b", "b[2]", "b[0]", "c.d", "b.x", "[1]", "a[",
      "a]" } do
      assert.is_false(paths.put(data, place, 1), place)
    end
    assert.is_true(paths.put(data, "b[1]", 5))
    assert.same({ 5 }, data.b)
  end)
end)
