--- Programs run by scripts: catga.process_run.
---
---   local done, err = catga.process_run({ "sort", "-u" }, { input = text, timeout = "10s" })
---   done.code, done.stdout
---
--- No shell stands between: arguments are passed as they are.
local errors = require "catga.error"
local tasks = require "catga.task"
local duration = require "catga.duration"
local settings = require "catga.settings"
local registries = require "catga.registry"
local native = require "catga.native.spawn"
local effect = require "catga.face".effect
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

local OPTIONS = { input = true, env = true, cwd = true, timeout = true, output_max = true,
  on_line = true, raise = true }
local SHOWN_BYTES = 200 -- Of what it says on stderr, in an error.
local OUTPUTS = { "stdout", "stderr" }

--- What a program has come to.
---@class catga.CommandResult
---@field code integer     its exit code; 128 and the signal when a signal ended it
---@field signal integer?  that ended it
---@field stdout string    nothing when on_line was given
---@field stderr string

local function check_command(command)
  if type(command) ~= "table" or type(command[1]) ~= "string" or command[1] == "" then
    error("catga.process_run needs a list: the program, then its arguments", 3)
  end
  for i, text in ipairs(command) do
    if type(text) == "number" then text = tostring(text) end
    if type(text) ~= "string" or text:find("%z") then
      error(("catga.process_run: argument %d is no text"):format(i - 1), 3)
    end
  end
end

local function check_options(opts)
  for name in raw_pairs(opts) do
    if not OPTIONS[name] then
      local near = registries.suggest(tostring(name), OPTIONS)
      error(("catga.process_run: unknown option %s; there are %s%s"):format(tostring(name),
        table.concat(registries.sorted_names(OPTIONS), ", "),
        near and "; did you mean " .. near .. "?" or ""), 3)
    end
  end
  local kind = type(opts.input)
  if kind ~= "nil" and kind ~= "string" and kind ~= "function" then
    error("catga.process_run: input is text or a function that gives pieces of it, got " .. kind, 3)
  end
  if opts.on_line ~= nil and type(opts.on_line) ~= "function" then
    error("catga.process_run: on_line is a function(line, \"stdout\" or \"stderr\")", 3)
  end
  if opts.on_line and kind == "function" then -- One task cannot do both at the same time.
    error("catga.process_run: with on_line the input is text, not a function", 3)
  end
  if opts.env ~= nil and type(opts.env) ~= "table" then
    error("catga.process_run: env is a table of variables", 3)
  end
end

-- The environment with some variables changed; false: without it.
local function environment(changes)
  if not changes then return nil end
  local list = {}
  for _, line in ipairs(native.environment()) do
    local name = line:match("^([^=]+)")
    if changes[name] == nil then list[#list + 1] = line end
  end
  for _, name in ipairs(registries.sorted_names(changes)) do
    local value = changes[name]
    if value then list[#list + 1] = name .. "=" .. tostring(value) end
  end
  return list
end

-- Waits; what is interrupted has ended the program.
local function wait(spawn, what)
  local ok, failure = pcall(tasks.wait, spawn.wait, spawn, what)
  if ok then return end
  spawn:close()
  error(failure, 0)
end

-- Splits what has come into lines; `rest` keeps those that are not whole.
local function give_lines(bytes, output, rest, on_line, line_max)
  local text = rest[output] .. bytes
  local from = 1
  while true do
    local at = text:find("\n", from, true)
    if not at then break end
    on_line(text:sub(from, at - 1), OUTPUTS[output])
    from = at + 1
  end
  rest[output] = text:sub(from)
  if #rest[output] > line_max then
    return errors.new("too_large", ("a line of its %s is over %d bytes"):format(OUTPUTS[output],
      line_max))
  end
end

-- Gives the outputs line by line until the program is over.
local function read_lines(spawn, on_line, line_max)
  local rest = { "", "" }
  while true do
    wait(spawn, "data")
    local has_some = false
    for output = 1, 2 do
      local bytes = spawn:take(output)
      if bytes then
        has_some = true
        local err = give_lines(bytes, output, rest, on_line, line_max)
        if err then return nil, err end
      end
    end
    if not has_some and spawn:outcome() then break end
  end
  for output = 1, 2 do
    if rest[output] ~= "" then on_line(rest[output], OUTPUTS[output]) end
  end
  return true
end

local function give_input(spawn, input)
  if type(input) == "function" then
    for piece in input do
      spawn:write(piece)
      wait(spawn, "room")
      if spawn:outcome() then return end
    end
  elseif input then
    spawn:write(input)
  end
  spawn:finish()
end

-- Gives the input, takes the output, until the program is over.
local function exchange(spawn, opts, output_max)
  give_input(spawn, opts.input)
  if opts.on_line then return read_lines(spawn, opts.on_line, output_max) end
  wait(spawn, "end")
  return true
end

local function finish(spawn, command, time_ms, output_max)
  local outcome, code, signal = spawn:outcome()
  if outcome == "timeout" then
    return nil, errors.new("timeout", ("%s took longer than its timeout of %d ms and was ended")
      :format(command[1], time_ms), { retryable = true })
  elseif outcome == "too_large" then
    return nil, errors.new("too_large", ("%s put out more than %d bytes and was ended; raise "
      .. "output_max, or take its output by on_line"):format(command[1], output_max))
  elseif outcome ~= "ended" then
    return nil, errors.new("cancelled", command[1] .. " was ended")
  end
  return { code = signal ~= 0 and 128 + signal or code, signal = signal ~= 0 and signal or nil,
    stdout = spawn:take(1) or "", stderr = spawn:take(2) or "" }
end

local function run(app, command, opts)
  local most = app.settings.commands_max
  if (app.commands or 0) >= most then
    return nil, errors.new("limit", ("%d programs run, which is the most (commands_max in "
      .. "catga.lua)"):format(most), { retryable = true })
  end
  local output_max = opts.output_max and settings.size(opts.output_max, "output_max")
    or app.settings.command_output_max
  local time_ms = opts.timeout and duration.ms(opts.timeout, "timeout")
    or app.settings.command_timeout
  local spawn, err = native.start { args = command, env = environment(opts.env), cwd = opts.cwd,
    time_ms = math.max(1, time_ms), output_max = not opts.on_line and output_max or 0 }
  if not spawn then return nil, err end
  app.commands = (app.commands or 0) + 1
  tasks.at_end(tasks.current "catga.process_run", spawn, function()
    app.commands = app.commands - 1
    spawn:close()
  end)
  local ok, done, failure = xpcall(exchange, errors.catch, spawn, opts, output_max)
  local result
  if ok and done then result, failure = finish(spawn, command, time_ms, output_max) end
  app.commands = app.commands - 1
  tasks.at_end(tasks.current "catga.process_run", spawn, nil)
  spawn:close()
  if not ok then error(done, 0) end
  return result, failure
end

--- Runs a program and waits for its end. It is ended, with its process group, when the call is
--- cancelled or takes too long. An exit code other than 0 is no error, unless `raise` asks for it.
--- May yield.
---@param command string[]  the program, searched for on the PATH, and its arguments
---@param opts { input: string|(fun(): string?)|nil, env: table<string, string|false>?,
---  cwd: string?, timeout: string?, output_max: string?, on_line: (fun(line: string, output:
---  "stdout"|"stderr"))?, raise: boolean? }?  env: variables to change, false: without it;
---  timeout: default the setting command_timeout; output_max: of both outputs, "16MiB"
---@return catga.CommandResult? result
---@return catga.Error? err  "not_found", "permission", "timeout" (retryable), "too_large", "limit"
function M.run(command, opts)
  local app = effect("catga.process_run", 3)
  opts = opts or {}
  check_command(command)
  check_options(opts)
  if opts.timeout then duration.ms(opts.timeout, "catga.process_run: timeout") end
  local result, err = run(app, command, opts)
  if not opts.raise then return result, err end
  if not result then error(err, 0) end
  if result.code == 0 then return result end
  error(errors.new("exit_code", ("%s ended with %s: %s"):format(command[1], result.signal
    and "signal " .. result.signal or "exit code " .. result.code,
    result.stderr:sub(1, SHOWN_BYTES)), { exit_code = result.code }), 0)
end

return M
