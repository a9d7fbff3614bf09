--- Recovery: what may fail is caught, and the flow goes on; what must not fail leaves the process
--- `failed`, with all that was done, until somebody has mended the cause and retries it.
local catga = require "catga"

local Import = catga.process "Import"

Import.settings = { store = { attempts = 2, backoff = "1s" } }

function Import:execute(import)
  local ok, err = pcall(function() self:announce(import.id) end)
  local rows = self:fetch(import.id)
  return { stored = self:store(rows), announced = ok, why = err and err.code }
end

function Import:announce() error(catga.error("nobody_listens")) end

function Import:fetch() return { "a", "b", "c" } end

function Import:store(rows) return self:send("StoreRows", { rows = rows }) end

catga.command("StoreRows", function(cmd) return #cmd.rows end)

-- Operations: every failed import goes on from the step that failed; also
-- `catga process retry ID`, or `skip` with a result.
catga.command("RetryImports", function()
  local failed = catga.processes.list { name = "Import", status = "failed" }
  catga.spawn(function() -- Behind the commit of this command: a retry holds at once.
    for _, process in ipairs(failed) do catga.processes.retry(process.id) end
  end)
  return #failed
end)
