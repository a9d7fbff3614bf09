---@meta catga.json

-- Annotations of the module catga.json, which is C (src/bind/bind_json.c). For editors only: this
-- file is never loaded.

--- Reads and writes JSON exactly: doubles survive, `[]` stays `[]`, null is `null`, equal values
--- give equal bytes (keys are sorted). What cannot survive is an error that names its path.
---@class catga.json
---@field null lightuserdata  JSON null; the same value as `catga.null` and `cjson.null`
---@field array_mt table  metatable of every decoded list; marks a table as a list
---@field empty_array_mt table  the same table as `array_mt`, under its name in cjson
---@field empty_array table  an empty list; do not add to it
local M = {}

--- Writes a value as JSON.
---
--- A table with the keys 1 to n is a list, one with string keys an object; an empty one is `{}`,
--- or `[]` when it has `array_mt`. Functions, userdata, coroutines, cdata, cycles, gaps in lists,
--- number keys, NaN, infinity and text that is not UTF-8 are errors; `nil` is written as null.
---
--- ```lua
--- json.encode({ id = "A1", items = json.array() })   --> {"id":"A1","items":[]}
--- ```
---@param value any
---@return string? text
---@return catga.Err? err  `invalid`, or `limit` when it is too deep or too large
function M.encode(value) end

--- Reads one JSON value from text.
---
--- A duplicate key and an integer beyond 2^53 are errors: they would be dropped or rounded.
---
--- ```lua
--- local order, err = json.decode('{"id":"A1"}')
--- ```
---@param text string
---@return any value  `json.null` for null; nil only with an error
---@return catga.Err? err  `invalid` with path, line and column, or `limit` when it is too deep
function M.decode(text) end

--- Marks a table as a list, so that it is written as `[]` even when it is empty.
---@generic T: table
---@param list? T  a new table when left out
---@return T list  the same table
function M.array(list) end

return M
