--- Schemas of commands and queries: what passes, what is refused, and how the refusal names it.
local schema = require "catga.schema"
local testing = require "catga.testing"
local catga = require "catga"

local function fault_of(rules, data)
  local err = schema.compile("Pay", rules)(data)
  if not err then return nil end
  assert.equal("validation", err.code)
  assert.is_false(err.retryable)
  return err.message
end

describe("a field of type", function()
  local null = catga.null
  for _, case in ipairs {
    { "string", { "", "text" }, { 1, true, {} } },
    { "number", { 0, -1.5, 2 ^ 53, math.huge }, { "1", true, {}, 0 / 0 } },
    { "integer", { 0, -7, 2 ^ 53 }, { 1.5, "1", math.huge, 0 / 0 } },
    { "boolean", { true, false }, { 0, "true", {} } },
    { "table", { {}, { 1, 2 }, { a = 1 } }, { 1, "text", true } },
    { "any", { 1, "text", false, {} }, {} },
  } do
    local name = case[1]
    it(name .. " takes its values and refuses others by the field's name", function()
      for _, value in ipairs(case[2]) do
        assert.is_nil(fault_of({ field = name }, { field = value }))
        assert.is_nil(fault_of({ field = name .. "?" }, { field = value }))
      end
      for _, value in ipairs(case[3]) do
        for _, rule in ipairs { name, name .. "?" } do
          local message = fault_of({ field = rule }, { field = value })
          assert.truthy(message:find("^Pay: field must be an? " .. name .. ", got " .. type(value)),
            message)
        end
      end
      for _, data in ipairs { {}, { field = null } } do
        local message = fault_of({ field = name }, data)
        assert.truthy(message:find("^Pay: field is missing; it must be "), message)
        assert.is_nil(fault_of({ field = name .. "?" }, data))
      end
    end)
  end
end)

describe("a schema", function()
  it("checks nested objects and names the path", function()
    local rules = { customer = { id = "string", address = { city = "string", zip = "string?" } } }
    assert.is_nil(fault_of(rules, { customer = { id = "1", address = { city = "Ulm" } } }))
    for _, case in ipairs {
      { {}, "customer must be an object" },
      { { customer = "x" }, "customer must be an object" },
      { { customer = {} }, "customer.address must be an object" },
      { { customer = { address = { city = "Ulm" } } }, "customer.id is missing" },
      { { customer = { id = "1", address = { city = 7 } } },
        "customer.address.city must be a string" },
    } do
      local message = fault_of(rules, case[1])
      assert.truthy(message:find(case[2], 1, true), message)
    end
  end)

  it("takes functions, and says what they say", function()
    local rules = { amount = function(v) return v > 0, "must be positive" end }
    assert.is_nil(fault_of(rules, { amount = 1 }))
    assert.equal("Pay: amount must be positive", fault_of(rules, { amount = -1 }))
    assert.equal("Pay: code is not valid",
      fault_of({ code = function() return false end }, { code = 1 }))
  end)

  it("refuses what makes a function raise: the data is wrong, not the program", function()
    local rules = { amount = function(v) return v > 0, "must be positive" end }
    assert.equal("Pay: amount is missing", fault_of(rules, {}))
    assert.equal("Pay: amount is missing", fault_of(rules, { amount = catga.null }))
    local message = fault_of(rules, { amount = "much" })
    assert.truthy(message:find("^Pay: amount is not valid: .*attempt to compare"), message)
  end)

  it("lets other fields pass and refuses data that is no object", function()
    assert.is_nil(fault_of({ a = "string" }, { a = "x", b = print }))
    for _, data in ipairs { "text", 5, true, catga.null } do
      local message = fault_of({ a = "string?" }, data)
      assert.equal("Pay: the data must be an object, got " .. type(data), message)
    end
    assert.truthy(fault_of({ a = "string?" }, nil):find("got nil", 1, true))
  end)

  it("tells the first wrong field in the order of names", function()
    local rules = {}
    for _, name in ipairs { "d", "b", "a", "c" } do rules[name] = "string" end
    assert.truthy(fault_of(rules, { a = "x" }):find("b is missing", 1, true))
  end)
end)

describe("a schema that is wrong", function()
  for _, case in ipairs {
    { "an unknown type", { id = "strin" }, "field id: \"strin\" is no type" },
    { "an unknown type below", { a = { b = "number ?" } }, "field a.b: \"number ?\" is no type" },
    { "a number", { id = 5 }, "field id: \"5\" is no type" },
    { "no table", "string", "input must be a table of fields" },
    { "a list", { "string" }, "names of fields are strings" },
  } do
    it("(" .. case[1] .. ") is a load error that names message, field and place", function()
      local opened, err = testing.app(function()
        catga.command { name = "Pay", input = case[2], handle = function() end }
      end)
      assert.is_nil(opened)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
      assert.truthy(err.message:find("Pay: ", 1, true), err.message)
      assert.truthy(err.message:find("schema_spec.lua:%d+"), err.message)
    end)
  end
end)

it("a message that its schema refuses never reaches the handler", function()
  local calls = 0
  local app = assert(testing.app(function()
    local function handle() calls = calls + 1 return true end
    catga.command { name = "C", input = { id = "string" }, handle = handle }
    catga.query { name = "Q", input = { id = "string" }, handle = handle }
  end))
  for _, verb in ipairs { "send", "ask" } do
    local value, err = app[verb](app, verb == "send" and "C" or "Q", { id = 1 })
    assert.is_nil(value)
    assert.equal("validation", err.code)
  end
  assert.equal(0, calls)
  app:stop()
end)
