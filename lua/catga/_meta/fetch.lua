---@meta catga.native.fetch

-- Annotations of the module catga.native.fetch, which is C (src/bind/bind_fetch.c): HTTP requests
-- on the loop, by libcurl, which is opened when the first pool is made. For editors only: this file
-- is never loaded.

local M = {}

--- Connections that are kept for reuse, and the requests that use them.
---@class catga.FetchPool
local Pool = {}

--- One request and its answer. Counts as outside work that `settle` waits for, until it is over.
---@class catga.Fetch
local Fetch = {}

--- Makes a pool. A bound of 0 is none.
---@param limits { connections_max: integer, host_connections_max: integer,
---  idle_connections_max: integer }
---@return catga.FetchPool? pool
---@return catga.Error? err  "not_found": libcurl is missing
function M.pool(limits) end

--- Starts a request. Redirects are not followed.
---@param request { method: string, url: string, unix_path: string?, proxy: string?,
---  ca_file: string?, cert_file: string?, key_file: string?, is_unverified: boolean?,
---  headers: string[]?, body: string?, streams_body: boolean?, stream_size: integer?,
---  connect_ms: number, total_ms: number, idle_ms: number, body_max: number }
---  headers: lines "Name: value"; body_max 0: no bound, and what is not taken is not read;
---  streams_body: the body comes by write and finish
---@return catga.Fetch? fetch
---@return catga.Error? err
function Pool:start(request) end

--- Requests under way.
---@return integer
function Pool:count() end

--- Aborts what is under way, closes the connections. Harmless when closed.
function Pool:close() end

--- Parks until it is there: the head of the answer, bytes of its body, room for more of the body
--- that is sent, the end; or the request is over. Interrupted, it aborts the request. Yields unless
--- it is there already.
---@param what "head"|"data"|"room"|"end"
function Fetch:wait(what) end

--- The head of the answer, as its lines came.
---@return integer? status  nil: it has not come
---@return string? lines
function Fetch:head() end

--- Bytes of the body that have come.
---@return string? bytes  nil: none
function Fetch:take() end

--- Sends more of the body. Nothing when the request is over.
---@param bytes string
function Fetch:write(bytes) end

--- The body that is sent is whole.
function Fetch:finish() end

--- How it ended.
---@return string? outcome  nil: it is under way; "ok", or why it failed: "timeout", "dns",
---  "refused", "tls", "reset", "too_large", "protocol", "invalid", "cancelled", "http_failed"
---@return string? message
function Fetch:outcome() end

--- The absolute place that the answer sends to.
---@return string?
function Fetch:redirect() end

--- Aborts it. Harmless when closed.
function Fetch:close() end

return M
