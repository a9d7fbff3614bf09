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
---@param is_reader boolean?  it must be there, and nothing is made in it: for run and query
---@return catga.Models? models
---@return catga.Error? err
function M.open(path, is_reader) end

--- SQL statements that are run together.
---@class catga.ModelStatements
local Statements = {}

--- An empty list of statements.
---@return catga.ModelStatements
function M.statements() end

--- Adds a statement. Raises for a value that cannot be one of SQL's.
---@param mark integer  from 1: whose it is, told when it fails
---@param text string   one statement
---@param ... string|number|boolean|lightuserdata|nil  values of its parameters
function Statements:add(mark, text, ...) end

--- Its size, for cut; 0: it is empty.
---@return integer bytes
function Statements:size() end

--- Takes back what was added since it had a size.
---@param size integer
function Statements:cut(size) end

--- All checkpoints. take() gives a flat list of text, four for each: name, version, position,
--- "1" when the version serves reads.
---@return catga.ModelJob
function Models:list() end

--- Makes a version of a projection when it is missing. take() gives its position and whether it
--- serves reads.
---@param name string
---@param version integer
---@param is_apart boolean?  its documents are in a database of its own, not here
---@param is_alone boolean?  this is that database: the view of its documents is called "documents"
---@return catga.ModelJob
function Models:define(name, version, is_apart, is_alone) end

--- Reads documents. take() gives a list with the JSON, or false, for each key.
---@param name string
---@param version integer
---@param keys string[]
---@param is_inside boolean?  sees the transaction that `stage` has left open; others wait until
---  it ends
---@return catga.ModelJob
function Models:fetch(name, version, keys, is_inside) end

--- Writes documents and moves the checkpoint, in one transaction. take() gives true; "conflict"
--- when the checkpoint does not stand at `from`.
---@param name string
---@param version integer
---@param from integer
---@param position integer
---@param changes table<string, string|false>  JSON by key; false deletes
---@param statements catga.ModelStatements?       run behind the documents
---@param more_statements catga.ModelStatements?  run behind these
---@return catga.ModelJob
function Models:apply(name, version, from, position, changes, statements, more_statements) end

--- Writes documents and runs statements in a transaction that stays open, until `apply` commits
--- it or `undo` rolls it back. When it fails nothing of the transaction is left. take() gives
--- true.
---@param name string
---@param version integer
---@param changes table<string, string|false>
---@param statements catga.ModelStatements?
---@return catga.ModelJob
function Models:stage(name, version, changes, statements) end

--- Rolls back the open transaction, if there is one. take() gives true.
---@return catga.ModelJob
function Models:undo() end

--- Runs the program's own statements, whatever they are. take() gives the rows of the last one, as
--- query does.
---@param statements catga.ModelStatements
---@return catga.ModelJob
function Models:run(statements) end

--- Runs one statement that only reads. take() gives a list of rows by column, without NULLs; the
--- list of columns; and whether there were more rows than max.
---@param statements catga.ModelStatements
---@param max integer         rows; 0: all
---@param timeout_ms integer  0: none
---@param is_inside boolean?
---@return catga.ModelJob
function Models:query(statements, max, timeout_ms, is_inside) end

--- Drops a version. take() gives true.
---@param name string
---@param version integer
---@return catga.ModelJob
function Models:drop(name, version) end

--- Finds documents by the values of their fields. take() gives a flat list: key, JSON, key, ...
---@param name string
---@param version integer
---@param where table<string, string|number|boolean|lightuserdata>
---@param max integer      1 to 10,000
---@param offset integer
---@param order string?    field to sort by; nil: by key
---@param is_descending boolean?
---@param is_inside boolean?
---@return catga.ModelJob? job
---@return catga.Error? err  a field that cannot be searched for or compared
function Models:find(name, version, where, max, offset, order, is_descending, is_inside) end

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

--- What the job was for, or nil, an error, and the mark of the statement that failed, if one has.
--- It must be done.
function Job:take() end

return M, Models, Job
