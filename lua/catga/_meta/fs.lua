---@meta catga.native.fs

-- Annotations of the module catga.native.fs, which is C (src/bind/bind_fs.c, bind_fs_watch.c): file
-- calls by threads of libuv's pool, and changes of files. For editors only: this file is never
-- loaded.

local M = {}

--- A call under way. Counts as outside work that `settle` waits for, until it is done.
---@class catga.FileJob
local Job = {}

--- An open file, to be read.
---@class catga.File
local File = {}

--- A watched file or directory. Waiting for a change is no outside work.
---@class catga.FileWatch
local Watch = {}

---@class catga.FileInfo
---@field type "file"|"directory"|"link"|"other"
---@field size integer    bytes
---@field changed number  when its content changed last, ms since the Unix epoch
---@field mode string     permissions, octal: "640"
---@field id string       which file it is, whatever its name

--- Begins a call.
---@param verb "read"|"write"|"append"|"stat"|"list"|"mkdir"|"remove"|"rename"|"copy"|"temp"|"open"
---@param opts { path: string, to: string?, bytes: string?, max: integer?, mode: integer?,
---  deep: boolean?, synced: boolean?, link: boolean? }  see src/runtime/files.h
---@return catga.FileJob
function M.job(verb, opts) end

--- Watches a file, or the entries of a directory.
---@param path string
---@return catga.FileWatch? watch
---@return catga.Error? err
function M.watch(path) end

--- Parks until it is done. Yields unless it is.
function Job:wait() end

--- What came out: read, temp: text; stat: info; list: infos, each with its
---  `name`; open: file, info; of
--- file:read: text, info; of the others true.
---@return any? result
---@return any? info_or_err
function Job:take() end

--- Begins to read.
---@param offset integer
---@param max integer  bytes
---@return catga.FileJob? job
---@return catga.Error? err  "limit": too many open files
function File:read(offset, max) end

--- Harmless when closed.
function File:close() end

--- Parks until something has changed. Yields unless it has.
function Watch:wait() end

--- What has changed since the last call.
---@return { name: string, renamed: boolean }[] changes  of a directory the entry; renamed: it came,
---  went, or took the place of another
---@return boolean has_lost  there were more
function Watch:take() end

--- Lets the task that waits go on. Harmless when closed.
function Watch:wake() end

--- Harmless when closed.
function Watch:close() end

return M
