--- Which rules the index finds, against asking each rule; patterns of topics; conditions.
local conditions = require "catga.route.conditions"
local indexes = require "catga.route.index"
local random = require "catga.process.random"
local topics = require "catga.route.topics"
local null = require "catga".null

local SEEDS = 150

local function die_of(seed)
  local next_random = random.new(seed)
  for _ = 1, 10 do next_random() end
  return function(n) return math.floor(next_random() * n) + 1 end
end

-- Many short loops: compiling them would take longer than they do.
before_each(function() jit.off() end)
after_each(function() jit.on() end)

describe("a pattern of topics", function()
  it("is checked", function()
    for _, good in ipairs { "A", "a.b", "*", ">", "a.*.c", "a.>", "*.>", "a*b.c", "$x" } do
      assert.is_nil(topics.fault(good))
    end
    for _, bad in ipairs { "", ">.a", "a.>.b", "*..a", ".*", "*.", 5 } do
      assert.is_string(topics.fault(bad))
    end
  end)

  it("takes one token for *, and one or more for >", function()
    assert.is_true(topics.matches("orders.*.created", "orders.de.created"))
    assert.is_false(topics.matches("orders.*.created", "orders.created"))
    assert.is_false(topics.matches("orders.*.created", "orders.de.x.created"))
    assert.is_true(topics.matches("orders.>", "orders.de"))
    assert.is_true(topics.matches("orders.>", "orders.de.x"))
    assert.is_false(topics.matches("orders.>", "orders"))
    assert.is_true(topics.matches(">", "OrderCreated"))
    assert.is_true(topics.matches("*", "OrderCreated"))
    assert.is_false(topics.matches("a.*", "a"))
    assert.is_true(topics.matches("a*b", "a*b"))
    assert.is_false(topics.matches("a*b", "axb"))
  end)

  it("knows what its types begin with", function()
    assert.equal("orders.", topics.prefix("orders.*.created"))
    assert.equal("", topics.prefix(">"))
    assert.equal("a.b", topics.prefix("a.b"))
  end)

  it("is found in a trie as by comparing", function()
    local tokens = { "a", "b", "c" }
    for seed = 1, SEEDS do
      local die, trie, patterns = die_of(seed), topics.new(), {}
      for i = 1, 12 do
        local parts = {}
        for k = 1, die(4) do parts[k] = die(4) == 1 and "*" or tokens[die(3)] end
        if die(4) == 1 then parts[#parts] = ">" end
        patterns[i] = table.concat(parts, ".")
        trie:add(patterns[i], i)
      end
      for _ = 1, 20 do
        local parts = {}
        for k = 1, die(4) do parts[k] = die(6) == 1 and "*" or tokens[die(3)] end
        local kind = table.concat(parts, ".")
        local found = {}
        trie:each(kind, function(i) found[i] = true end)
        for i, pattern in ipairs(patterns) do
          assert.equal(topics.matches(pattern, kind), found[i] == true,
            ("seed %d: %s %s"):format(seed, pattern, kind))
        end
      end
    end
  end)
end)

local function holds(field, op, value, message)
  return conditions.make(field, op, value, "here").test(message)
end

describe("a condition", function()
  it("compares fields that paths name", function()
    local m = { a = 1, b = { c = "x", list = { { d = true } } }, n = null, s = "hello" }
    assert.is_true(holds("a", "==", 1, m))
    assert.is_false(holds("a", "==", "1", m))
    assert.is_true(holds("b.c", "==", "x", m))
    assert.is_true(holds("b.list.1.d", "==", true, m))
    assert.is_true(holds({ "b", "list", 1, "d" }, "==", true, m))
    assert.is_false(holds("b.c.d.e", "==", 1, m))
    assert.is_true(holds("n", "==", null, m))
    assert.is_true(holds("n", "missing", nil, m))
    assert.is_true(holds("zz", "missing", nil, m))
    assert.is_false(holds("n", "exists", nil, m))
    assert.is_true(holds("a", "exists", nil, m))
    assert.is_true(holds("zz", "~=", 1, m))
    assert.is_true(holds("a", "<", 2, m))
    assert.is_false(holds("s", "<", 2, m))
    assert.is_false(holds("zz", ">=", 2, m))
    assert.is_true(holds("a", "in", { 3, 1 }, m))
    assert.is_false(holds("zz", "in", { 3, 1 }, m))
    assert.is_true(holds("zz", "not in", { 3, 1 }, m))
    assert.is_true(holds("s", "prefix", "he", m))
    assert.is_true(holds("s", "suffix", "lo", m))
    assert.is_true(holds("s", "contains", "ll", m))
    assert.is_true(holds("s", "matches", "^h.-o$", m))
    assert.is_false(holds("a", "==", 1, "no table"))
    assert.is_false(holds("a.b.c", "==", 1, "no table"))
  end)

  it("is refused where it is made, with what is wrong", function()
    local function fault(...)
      local ok, err = pcall(conditions.make, ...)
      assert.is_false(ok)
      return err
    end
    assert.truthy(fault("a", "=", 1, "here"):find("no operator =", 1, true))
    assert.truthy(fault("a", "prefx", "x", "here"):find("did you mean prefix?", 1, true))
    assert.truthy(fault("", "==", 1, "here"):find("here: field is a path", 1, true))
    assert.truthy(fault("a..b", "==", 1, "here"):find("field is a path", 1, true))
    assert.truthy(fault("a", "==", {}, "here"):find("a string, a number", 1, true))
    assert.truthy(fault("a", "==", nil, "here"):find("not nil", 1, true))
    assert.truthy(fault("a", "in", {}, "here"):find("a list", 1, true))
    assert.truthy(fault("a", "<", true, "here"):find("a number or a string", 1, true))
    assert.truthy(fault("a", "exists", 1, "here"):find("left out", 1, true))
    assert.truthy(fault("a", "matches", "[", "here"):find("a Lua pattern", 1, true))
  end)
end)

-- A rule as the index sees it, with conditions of a seed.
local function random_rule(die, rank)
  local fields, kinds = { "a", "b", "c.d" }, { "X", "Y", "x.*", "x.>", ">", "x.y" }
  local rule = { rank = rank, patterns = {}, tests = {}, keys = {} }
  for i = 1, die(2) do rule.patterns[i] = kinds[die(#kinds)] end
  for _ = 1, die(4) - 1 do
    local what = die(5)
    local condition
    local field, value = fields[die(3)], die(4)
    if what <= 3 then
      condition = conditions.make(field, "==", die(6) == 1 and null or value, "here")
    elseif what == 4 then
      condition = conditions.make(field, "in", { value, die(4) }, "here")
    else
      condition = conditions.make(field, ">", value, "here")
    end
    rule.tests[#rule.tests + 1] = condition.test
    if condition.keys then rule.keys[#rule.keys + 1] = condition end
  end
  return rule
end

local function takes(rule, kind, message)
  local reads = false
  for _, pattern in ipairs(rule.patterns) do reads = reads or topics.matches(pattern, kind) end
  for _, test in ipairs(rule.tests) do reads = reads and test(message) end
  return reads
end

local function random_message(die)
  local function value() return ({ nil, 1, 2, 3, 4, null })[die(6)] end
  return { a = value(), b = value(), c = die(3) > 1 and { d = value() } or value() }
end

describe("an index of rules", function()
  it("finds, in order, every rule that takes a message", function()
    for seed = 1, SEEDS do
      local die, rules = die_of(seed), {}
      for rank = 1, die(30) do rules[rank] = random_rule(die, rank) end
      local index = indexes.new(rules)
      for _ = 1, 30 do
        local kind = ({ "X", "Y", "x.y", "x.y.z", "Z" })[die(5)]
        local message = random_message(die)
        local expected, got, last = {}, {}, 0
        for _, rule in ipairs(rules) do
          if takes(rule, kind, message) then expected[#expected + 1] = rule.rank end
        end
        for _, rule in ipairs(index:find(kind, message)) do
          assert(rule.rank > last, ("seed %d: out of order"):format(seed))
          last = rule.rank
          if takes(rule, kind, message) then got[#got + 1] = rule.rank end
        end
        assert.same(expected, got, ("seed %d"):format(seed))
      end
    end
  end)

  it("asks one rule of 10,000 that compare a field", function()
    local rules = {}
    for rank = 1, 10000 do
      rules[rank] = { rank = rank, patterns = { "X" },
        keys = { conditions.make("repository", "==", "r" .. rank, "here") } }
    end
    local index = indexes.new(rules)
    local found = index:find("X", { repository = "r77" })
    assert.equal(1, #found)
    assert.equal(77, found[1].rank)
    assert.equal(0, #index:find("X", { repository = "none" }))
    assert.equal(0, #index:find("Y", { repository = "r77" }))
  end)

  it("allocates nothing when no rule is found", function()
    local rules = { { rank = 1, patterns = { "X" },
      keys = { conditions.make("a", "==", 1, "here") } } }
    local index, message = indexes.new(rules), { a = 2 }
    index:find("X", message)
    index:find("Y", message)
    collectgarbage()
    collectgarbage("stop")
    local before = collectgarbage("count")
    for _ = 1, 1000 do
      index:find("X", message)
      index:find("Y", message)
    end
    local grown = collectgarbage("count") - before
    collectgarbage("restart")
    -- One table a call would be 40 bytes, and 80 KiB.
    assert.is_true(grown < 8, ("%.1f KiB"):format(grown))
  end)

  it("keeps plans of a bounded number of types", function()
    local index = indexes.new { { rank = 1, patterns = { "x.>" }, keys = {} } }
    for i = 1, 10050 do assert.equal(1, #index:find("x." .. i, {})) end
    assert.is_true(index.plan_count <= 10000)
  end)
end)
