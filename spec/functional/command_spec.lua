--- catga.process_run: programs beside this one, and that none is left behind.
local testing = require "catga.testing"
local clocks = require "catga.native.clock"
local native_task = require "catga.native.task"
local state = require "catga.state"
local catga = require "catga"

local app, clock

local function open(define, opts)
  opts = opts or {}
  app = assert(testing.app(define or function() end, opts))
end
after_each(function()
  app:stop()
  if clock then clock:close() end
  clock = nil
end)
local function run(fn) return app:call(fn) end

-- Waits in real time; `settle` waits too.
local function wait_until(fn)
  native_task.busy(1)
  local system = clocks.system()
  while not fn() do system:sleep(1) end
  system:close()
  native_task.busy(-1)
end

local function read(path)
  local file = io.open(path)
  if not file then return "" end
  local text = file:read "*a"
  file:close()
  return text
end

-- Is a process there, and no zombie?
local function is_alive(pid)
  local status = read("/proc/" .. pid .. "/stat")
  return status ~= ""
end

describe("catga.process_run", function()
  it("gives exit code and outputs; arguments are no shell's", function()
    open()
    run(function()
      local done = assert(catga.process_run { "printf", "%s|", "a b", "$HOME", "`id`", "" })
      assert.same({ code = 0, stdout = "a b|$HOME|`id`||", stderr = "" }, done)
      done = assert(catga.process_run { "sh", "-c", "echo out; echo err >&2; exit 3" })
      assert.same({ code = 3, stdout = "out\n", stderr = "err\n" }, done)
      done = assert(catga.process_run { "sh", "-c", "kill -9 $$" })
      assert.same({ 137, 9 }, { done.code, done.signal })
    end)
  end)

  it("gives input, as text and piece by piece; what is not read is dropped", function()
    open()
    run(function()
      local text = ("line\n"):rep(200000)
      assert.equal(text, assert(catga.process_run({ "cat" }, { input = text })).stdout)
      local n = 0
      local done = assert(catga.process_run({ "wc", "-c" }, { input = function()
        n = n + 1
        if n <= 500 then return ("x"):rep(10000) end
      end }))
      assert.equal(5000000, tonumber(done.stdout))
      assert.equal(0, assert(catga.process_run({ "true" }, { input = text })).code)
      assert.equal("", assert(catga.process_run({ "cat" })).stdout)
    end)
  end)

  it("changes environment and working directory", function()
    open()
    run(function()
      local done = assert(catga.process_run({ "sh", "-c", "echo $A,$HOME,${PATH:+path}; pwd" },
        { env = { A = "b=c", HOME = false }, cwd = "/usr" }))
      assert.equal("b=c,,path\n/usr\n", done.stdout)
    end)
  end)

  it("says what cannot be started", function()
    open()
    run(function()
      local none, err = catga.process_run { "/no/such/program" }
      assert.is_nil(none)
      assert.equal("not_found", err.code)
      none, err = catga.process_run({ "true" }, { cwd = "/no/such/directory" })
      assert.is_nil(none)
      assert.truthy(err.message:find("/no/such/directory", 1, true))
      none, err = catga.process_run { "/etc/passwd" }
      assert.is_nil(none)
      assert.equal("permission", err.code)
      local _, failure = pcall(catga.process_run, { "sh", "-c", "echo why >&2; exit 4" },
        { raise = true })
      assert.same({ "exit_code", 4 }, { failure.code, failure.exit_code })
      assert.truthy(failure.message:find("why", 1, true))
      assert.has_error(function() catga.process_run "ls" end)
      assert.has_error(function() catga.process_run({ "ls" }, { timout = "1s" }) end)
    end)
  end)

  it("gives lines as they come, and waits for who takes them", function()
    open()
    run(function()
      local lines = {}
      local done = assert(catga.process_run({ "sh", "-c", "echo one; echo two >&2; printf three" },
        { on_line = function(line, output)
          catga.sleep "1ms"
          lines[line] = output
        end }))
      assert.same({ one = "stdout", two = "stderr", three = "stdout" }, lines)
      assert.equal("", done.stdout)
      local count = 0
      assert(catga.process_run({ "seq", "100000" }, { on_line = function(line)
        count = count + 1
        assert(tonumber(line) == count)
      end }))
      assert.equal(100000, count)
      local ok, failure = pcall(catga.process_run, { "yes" }, { on_line = function()
        error "enough"
      end })
      assert.is_false(ok)
      assert.truthy(failure.message:find "enough")
    end)
  end)

  it("has bounds for time and output, and ends the whole group", function()
    open()
    local path = os.tmpname()
    run(function()
      local none, err = catga.process_run({ "sh", "-c",
        "sleep 1000 & echo $! >" .. path .. "; echo $$ >>" .. path .. "; wait" },
        { timeout = "200ms" })
      assert.is_nil(none)
      assert.same({ "timeout", true }, { err.code, err.retryable })
      local pids = {}
      for pid in read(path):gmatch "%d+" do pids[#pids + 1] = pid end
      assert.equal(2, #pids)
      wait_until(function() return not is_alive(pids[1]) and not is_alive(pids[2]) end)
      none, err = catga.process_run({ "yes" }, { output_max = "10KiB" })
      assert.is_nil(none)
      assert.equal("too_large", err.code)
      -- One that does not end when it is told to.
      none, err = catga.process_run({ "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done" },
        { timeout = "50ms" })
      assert.is_nil(none)
      assert.equal("timeout", err.code)
    end)
    os.remove(path)
  end)

  it("ends with its task, and with its step", function()
    clock = clocks.system()
    local path = os.tmpname()
    open(function()
      local P = catga.process "Runs"
      P.settings = { work = { timeout = "100ms", attempts = 1 } }
      function P:execute() return self:work() end
      function P:work()
        return catga.process_run { "sh", "-c", "echo $$ >" .. path .. "; exec sleep 1000" }
      end
      local B = catga.process "Body"
      function B:execute()
        local done = catga.process_run { "true" }
        return done
      end
    end, { clock = clock })
    local function pid() return read(path):match "%d+" end
    local task
    catga.spawn(function()
      task = state[1]
      catga.process_run { "sh", "-c", "echo $$ >" .. path .. "; exec sleep 1000" }
    end)
    wait_until(pid)
    local first = pid()
    assert.is_true(is_alive(first))
    native_task.drop(task)
    wait_until(function() return not is_alive(first) end)
    local id = assert(app.app.engine:start("Runs", { id = "1" }))
    local _, value, err = app.app.engine:wait(id)
    assert.is_nil(value)
    assert.equal("timeout", err.code)
    wait_until(function() return not is_alive(pid()) end)
    id = assert(app.app.engine:start("Body", { id = "2" }))
    _, value, err = app.app.engine:wait(id)
    assert.is_nil(value)
    assert.truthy(err.message:find("catga.process_run in the body of a process", 1, true))
    os.remove(path)
  end)

  it("has a bound for how many run", function()
    open(nil, { settings = { commands_max = 2 } })
    run(function()
      local outcomes = catga.map({ 1, 2, 3 }, function()
        local done, err = catga.process_run { "sleep", "0.05" }
        return done and "ran" or err.code
      end)
      table.sort(outcomes)
      assert.same({ "limit", "ran", "ran" }, outcomes)
      assert(catga.process_run { "true" })
    end)
  end)
end)
