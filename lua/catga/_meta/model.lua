---@meta catga.native.model

-- Annotations of the module catga.native.model, which is C (src/bind/bind_model.c): documents of
-- read models and their checkpoints in one SQLite database, on a worker thread. For editors only:
-- this file is never loaded.

local M = {}

--- The database. Jobs run one at a time, in the order in which they were made.
---@class catga.Models
local Models = {}

--- A job of the worker. Counts as outside work that `settle` waits for, until it is done.
---@class catga.ModelJob
local Job = {}

--- Opens or makes the database. What is wrong with the file is told by every job.
---@param path string?  nil: in memory
---@return catga.Models? models
---@return catga.Error? err
function M.open(path) end

--- All checkpoints. take() gives a flat list of text, four for each: name, version, position,
--- "1" when the version serves reads.
---@return catga.ModelJob
function Models:list() end

--- Makes a version of a projection when it is missing. take() gives its position and whether it
--- serves reads.
---@param name string
---@param version integer
---@return catga.ModelJob
function Models:define(name, version) end

--- Reads documents. take() gives a list with the JSON, or false, for each key.
---@param name string
---@param version integer
---@param keys string[]
---@return catga.ModelJob
function Models:fetch(name, version, keys) end

--- Writes documents and moves the checkpoint, in one transaction. take() gives true; "conflict"
--- when the checkpoint does not stand at `from`.
---@param name string
---@param version integer
---@param from integer
---@param position integer
---@param changes table<string, string|false>  JSON by key; false deletes
---@return catga.ModelJob
function Models:apply(name, version, from, position, changes) end

--- Finds documents by the values of their fields. take() gives a flat list: key, JSON, key, ...
---@param name string
---@param version integer
---@param where table<string, string|number|boolean|lightuserdata>
---@param max integer      1 to 10,000
---@param offset integer
---@param order string?    field to sort by; nil: by key
---@param is_descending boolean?
---@return catga.ModelJob? job
---@return catga.Error? err  a field that cannot be searched for or compared
function Models:find(name, version, where, max, offset, order, is_descending) end

--- Makes a version the one that serves reads and drops the others. take() gives true.
---@param name string
---@param version integer
---@return catga.ModelJob
function Models:serve(name, version) end

--- Closes the database. Jobs that wait end with "closed". Blocks while a job runs.
function Models:close() end

--- Parks the task until the job is done; one task at a time. May yield.
---@return boolean ok  true
function Job:wait() end

--- What the job was for, or nil and an error. It must be done.
function Job:take() end

return M, Models, Job
