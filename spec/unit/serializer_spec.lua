--- Base64, and values that JSON cannot hold, packed and back.
local base64 = require "catga.base64"
local serializers = require "catga.process.serializer"
local json = require "catga.native.json"

local ALL = {}
for i = 0, 255 do ALL[i + 1] = string.char(i) end
local EVERY_BYTE = table.concat(ALL)

describe("base64", function()
  it("is that of RFC 4648", function()
    for bytes, text in pairs { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==",
      fooba = "Zm9vYmE=", foobar = "Zm9vYmFy" } do
      assert.equal(text, base64.encode(bytes))
      assert.equal(bytes, base64.decode(text))
    end
    assert.equal(EVERY_BYTE, base64.decode(base64.encode(EVERY_BYTE)))
  end)

  it("refuses what is none", function()
    for _, text in ipairs { "Z", "Zg", "Zg=", "Zg===", "Z===", "====", "Zm9v!", "Zm 9",
      "Zg==Zg==" } do
      assert.is_nil(base64.decode(text), text)
    end
  end)
end)

for _, name in ipairs { "binary", "msgpack" } do
  describe("the serializer " .. name, function()
    local function there_and_back(value)
      local text, as = serializers.pack(name, value, "result")
      assert(text, tostring(as))
      assert.truthy(text:find "^[%w+/=]*$")
      return serializers.unpack(as, text), as
    end

    it("keeps what JSON has not", function()
      for _, value in ipairs { EVERY_BYTE, { blob = EVERY_BYTE, n = 5 }, { 1, nil, 3 },
        { [5] = "a", [-1] = "b", [1.5] = { true, false } }, { [EVERY_BYTE] = 1 },
        { math.huge, -math.huge, 0.1, 2 ^ 60, 1e300, -7 } } do
        assert.same(value, (there_and_back(value)))
        assert.is_true(serializers.is_same(value, (there_and_back(value))))
      end
      local nan = there_and_back { 0 / 0 }
      assert.is_true(nan[1] ~= nan[1])
      assert.is_true(serializers.is_same(nan, { 0 / 0 }))
    end)

    it("keeps null", function()
      local value = there_and_back { EVERY_BYTE, json.null, { a = json.null } }
      assert.equal(json.null, value[2])
      assert.equal(json.null, value[3].a)
    end)

    it("keeps a string as its bytes", function()
      local _, as = there_and_back(EVERY_BYTE)
      assert.equal("bytes", as)
      assert.equal(base64.encode(EVERY_BYTE), (serializers.pack(name, EVERY_BYTE, "result")))
    end)

    it("refuses by its path what cannot be stored", function()
      local cycle = { a = {} }
      cycle.a.b = cycle
      local deep = EVERY_BYTE
      for _ = 1, 40 do deep = { deep } end
      for _, case in ipairs {
        { { a = { print } }, "result.a.1 is a function" },
        { { a = io.stdout }, "result.a is a userdata" },
        { { a = coroutine.create(print) }, "result.a is a thread" },
        { { a = require("ffi").new("int64_t", 5) }, "result.a is a cdata" },
        { { [{}] = 1 }, "result has a key that is a table" },
        { cycle, "result.a.b contains itself" },
        { deep, "is over 30 tables deep" },
      } do
        local text, err = serializers.pack(name, case[1], "result")
        assert.is_nil(text)
        assert.equal("invalid", err.code)
        assert.truthy(err.message:find(case[2], 1, true), err.message)
      end
    end)

    it("tells of damage", function()
      for _, text in ipairs { "!", "////", 5 } do
        local ok, err = pcall(serializers.unpack, name, text)
        if not (name == "msgpack" and ok) then
          assert.is_false(ok)
          assert.equal("damaged", err.code)
        end
      end
    end)
  end)
end

describe("the serializer binary", function()
  it("keeps empty lists apart from empty objects", function()
    local value = serializers.unpack("binary", (serializers.pack("binary",
      { EVERY_BYTE, json.array(), {} }, "result")))
    assert.equal("[]", json.encode(value[2]))
    assert.equal("{}", json.encode(value[3]))
  end)
end)

describe("a packed value", function()
  it("of an unknown kind is damage", function()
    local ok, err = pcall(serializers.unpack, "xml", "Zg==")
    assert.is_false(ok)
    assert.equal("damaged", err.code)
  end)

  it("is shown as well as JSON can", function()
    assert.same({ a = { ["$base64"] = "/w==" }, n = "inf", list = { ["1"] = 1, ["3"] = 3 }, ok = 1,
      null = json.null }, serializers.shown { a = "\255", n = math.huge, list = { 1, nil, 3 },
      ok = 1, null = json.null })
    assert.same({ { { ["$base64"] = "/w==" } }, 2 }, serializers.shown { { "\255" }, 2 })
    assert.equal('[[],"nan"]', json.encode(serializers.shown { json.array(), 0 / 0 }):gsub("-", ""))
    assert.equal("text", serializers.shown "text")
    assert.is_string(json.encode(serializers.shown { ["\255"] = { [true] = "\254" } }))
  end)
end)
