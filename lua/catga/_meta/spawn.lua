---@meta catga.native.spawn

-- Annotations of the module catga.native.spawn, which is C (src/bind/bind_spawn.c): programs run
-- beside this one, without a shell. For editors only: this file is never loaded.

local M = {}

--- A program. Counts as outside work that `settle` waits for, until it is over. Collected or closed
--- while it runs, it and its group are ended: by SIGTERM, a second later by SIGKILL.
---@class catga.Spawn
local Spawn = {}

--- Starts a program, in a process group of its own.
---@param request { args: string[], env: string[]?, cwd: string?, time_ms: number?,
---  output_max: number? }  args: the command first, searched for on the PATH; env: "NAME=value" of
---  all variables, nil: as here; 0: no limit; without output_max what is not taken is not read
---@return catga.Spawn? spawn
---@return catga.Error? err  "not_found", "permission", ...
function M.start(request) end

--- This program's environment.
---@return string[] variables  "NAME=value"
function M.environment() end

--- Parks until it is there: bytes of an output, room for input, the end; or it is over.
--- Interrupted, it ends the program. Yields unless it is there already.
---@param what "data"|"room"|"end"
function Spawn:wait(what) end

--- Bytes of an output that have come.
---@param output 1|2  stdout, stderr
---@return string? bytes  nil: none
function Spawn:take(output) end

--- Gives it input; what it does not read is dropped.
---@param bytes string
function Spawn:write(bytes) end

--- That was all of its input.
function Spawn:finish() end

--- How it ended.
---@return nil|"ended"|"timeout"|"too_large"|"cancelled"  nil: it runs
---@return integer? exit_code
---@return integer? signal  0: by itself
function Spawn:outcome() end

---@return integer
function Spawn:pid() end

--- Ends it when it runs. Harmless when closed.
function Spawn:close() end

return M
