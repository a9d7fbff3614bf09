--- Commits beside units of work: all records or none, and which refusals are worth another attempt.
local testing = require "catga.testing"
local catga = require "catga"
local commits = require "catga.commit"
local flags = require "catga.flags"

local app

before_each(function() app = assert(testing.app(function() end)) end)

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function records(fill) return app:call(commits.records, app.app, fill) end

local function count(name)
  local stream = app.app.store:stream(name)
  return stream and app.app.store:count(stream) or 0
end

describe("a commit of bookkeeping", function()
  it("holds all of its records, durable, and no reader of events sees them", function()
    assert.is_true(records(function(add)
      assert.equal(0, add("$one", "A", { n = 1 }))
      assert.equal(0, add("$two", "B", { n = 2 }))
      assert.equal(1, add("$one", "A", { n = 3 }))
    end))
    assert.equal(2, count("$one"))
    assert.equal(1, count("$two"))
    local next_position, durable = app.app.store:positions()
    assert.equal(next_position, durable)
    assert.same({}, (app:call(catga.events.read_all)))
  end)

  it("holds nothing when one of them cannot be stored", function()
    local ok, err = records(function(add)
      add("$one", "A", { n = 1 })
      add("$two", "B", { n = function() end })
      add("$one", "A", { n = 2 })
    end)
    assert.is_false(ok)
    assert.equal("invalid", err.code)
    assert.equal(0, count("$one"))
    assert.is_true(records(function(add) add("$one", "A", {}) end))
    assert.equal(1, count("$one"))
  end)

  it("waits while the log has much to write", function()
    local store, refusals = app.app.store, 2
    local fake = setmetatable({ store = setmetatable({
      add = function(_, ...) return store:add(...) end,
      begin = function() return store:begin() end,
      encode = function(_, ...) return store:encode(...) end,
      stream = function(_, ...) return store:stream(...) end,
      wait = function(_, position) return store:wait(position) end,
      commit = function()
        if refusals == 0 then return store:commit() end
        refusals = refusals - 1
        store:rollback()
        return nil, catga.error("limit", "9 bytes are pending")
      end }, {}) }, { __index = app.app })
    assert.is_true(app:call(commits.records, fake, function(add) add("$one", "A", {}) end))
    assert.equal(0, refusals)
    assert.equal(1, count("$one"))
  end)

  it("is refused once the app is stopped", function()
    local ok, err = app:call(commits.records, { is_closed = true }, function() end)
    assert.is_false(ok)
    assert.equal("closed", err.code)
  end)
end)

describe("a refused commit", function()
  it("is tried again while the writer is behind, or the disk full", function()
    assert.is_true(commits.is_behind(catga.error("limit", "pending_bytes_max would be passed")))
    assert.is_false(commits.is_behind(catga.error("limit", "the commit is too large")))
    assert.is_true(commits.pause_after(catga.error("limit", "much is pending"))
      < commits.pause_after(catga.error("disk_full", "no space")))
    assert.is_nil(commits.pause_after(catga.error("io_error", "the disk is gone")))
  end)
end)

describe("flags of records", function()
  it("are those of the store", function()
    local store = app.app.store
    local function add(name, flag)
      store:begin()
      assert(store:add(store:stream(name, true), -1, "T", "{}", nil, flag))
      assert(store:commit())
    end
    app:call(function()
      add("Plain-1", 0)
      add("Opened-1", flags.OPENS)
      add("Closed-1", flags.OPENS)
      add("Closed-1", flags.CLOSES)
      add("$own", flags.INTERNAL)
      add("Process-1", flags.JOURNAL)
      store:wait((store:positions()) - 1)
    end)
    assert.is_true(store:is_unfinished(store:stream("Opened-1")))
    assert.is_false(store:is_unfinished(store:stream("Closed-1")))
    local seen = {}
    for _, event in ipairs((store:read_all(0, 100))) do seen[#seen + 1] = event.stream end
    assert.same({ "Plain-1", "Opened-1", "Closed-1", "Closed-1" }, seen)
    assert.equal(5, #(store:read_all(0, 100, nil, true)))
  end)
end)
