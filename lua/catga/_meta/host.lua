---@meta catga.native.host

-- Annotations of the module catga.native.host, which is C (src/bind/bind_host.c): output, files of
-- an app, hashes, randomness. Nothing here yields. For editors only: this file is never loaded.

local M = {}

--- Says a line on the program's output.
---@param level "debug"|"info"|"warn"|"error"  raises for another
---@param text string
function M.say(level, text) end

--- What a directory holds, by name; names that begin with a dot are left out.
---@param path string
---@return { name: string, is_directory: boolean }[]? entries
---@return catga.Error? err  "not_found", "permission", "io_error", ...
function M.list(path) end

--- A whole file of at most 16 MiB.
---@param path string
---@return string? text
---@return catga.Error? err  "not_found", ...; "invalid": no regular file, or too large
function M.read_file(path) end

--- The SHA-256 hash.
---@param text string
---@return string digits  64 hexadecimal ones
function M.sha256(text) end

--- A number of the system's randomness.
---@return integer seed  0 to 2^48-1
function M.random_seed() end

--- The absolute path, with links resolved.
---@param path string
---@return string? path
---@return catga.Error? err  "not_found", ...
function M.absolute(path) end

--- A directory that is watched.
---@class catga.Watch
local Watch = {}

--- Runs a function as a task of its own whenever something below a directory has changed; names
--- that begin with a dot do not count.
---@param path string
---@param settle_ms integer  quiet time before it runs
---@param fn fun()
---@return catga.Watch? watch
---@return catga.Error? err
function M.watch(path, settle_ms, fn) end

--- Ends the watching. May be called again.
function Watch:stop() end

--- Starts the deadline of runaway handlers: Lua that runs longer without waiting is interrupted by
--- an error.
---@param deadline_ms integer  0 stops it
function M.guard(deadline_ms) end

--- Sets a cap of the Lua heap.
---@param bytes number  0: none
function M.set_memory_max(bytes) end

--- Ends the program's loop gracefully. Returns.
---@param code integer?  exit code, default 0
function M.exit(code) end

return M
