---@meta catga.native.store

-- Annotations of the module catga.native.store, which is C (src/bind/bind_store*.c): the event
-- store, by numbers of streams. For editors only: this file is never loaded.
--
-- Positions start at 1 and grow over the whole store; versions start at 0 in each stream. What is
-- committed is read by number and version at once; read_all gives only what is durable.

local M = {}

--- An event store. Every method raises once it is closed or abandoned.
---@class catga.Store
local Store = {}

--- The records of a store at one moment, for `memory`.
---@class catga.MemoryLog

--- Opens a store. Raises for options of a wrong type and an unknown durability.
---@param options { clock: catga.Clock, path: string?, memory: catga.MemoryLog?, manual: boolean?,
---  durability: "fsync"|"os"|"memory"|nil, segment_bytes: integer?, pending_bytes_max: integer?,
---  message_size_max: integer?,
---  journal_size_max: integer?, node: integer?, streams_cached_max: integer?,
---  on_failed: fun(err: catga.Error)? }
---  path: data directory, made when missing; without it the store is in memory. manual: nothing is
---  durable before turn(). node: 0 to 1023. on_failed: runs as a task when the log has failed
---@return catga.Store? store
---@return catga.Error? err  "busy": another program has it open; "corrupt", "io_error", ...
function M.open(options) end

--- The number of a stream. It is good until the task waits; then the stream may have left memory,
--- unless it is that of an unfinished process, and the number is stale: find it by name again.
--- Raises when a damaged index could not be built again.
---@param name string   1 to 1024 bytes; UTF-8 when it is made
---@param make boolean? give a number also when nothing was ever added to it
---@return integer? stream  nothing: there is none, or no such name can be
function Store:stream(name, make) end

--- Has the stream of this number left memory?
---@param stream integer
---@return boolean
function Store:is_stale(stream) end

--- How many streams have left memory: while it is the same, no number becomes stale.
---@return integer
function Store:evicted_count() end

--- How many places there are for streams in memory, younger ones higher, roughly.
---@return integer
function Store:place_count() end

--- The number of the stream at a place.
---@param place integer  0 to place_count() - 1
---@return integer? stream  nothing: the place is free
function Store:at(place) end

--- Names of streams that have records, in the order of their bytes.
---@param prefix string?  what they begin with
---@param after string?   they are above it: the last name of the page before
---@param max integer     1 to 10,000
---@return string[]? names
---@return catga.Error? err  "corrupt", "io_error": a damaged index could not be built again
function Store:streams(prefix, after, max) end

--- The name of a stream. Raises for a number that is none, or stale.
---@param stream integer
---@return string
function Store:name(stream) end

--- How many records a stream has had. Raises for a number that is none, or stale.
---@param stream integer
---@return integer
function Store:count(stream) end

--- Is it the stream of a process that has not ended? Not when the number is stale.
---@param stream integer
---@return boolean
function Store:is_unfinished(stream) end

--- The streams that are unfinished: processes that have not ended, messages that wait, dead letters
--- that are open; roughly the oldest first.
---@param prefix string?  what their names begin with
---@return integer[] streams
function Store:unfinished(prefix) end

--- Reads records of a stream, those included that are not durable yet.
---@param stream integer
---@param from number      version; backward: one that is too high means the last
---@param max integer      1 to 100,000
---@param backward boolean?
---@return { stream: string, version: integer, position: integer, type: string, data: any,
---  metadata: any, id: string, time: integer, personal: true? }[]? events  personal: some fields of
---  the data are encrypted
---@return catga.Error? err  "corrupt", "io_error"; "invalid": data that is no JSON of ours
function Store:read(stream, from, max, backward) end

--- Reads durable records of all streams in the order of positions. Looks at no more than 100,000
--- records a call. Calls that go on where the last one ended are cheapest.
---@param after integer    position; 0: from the first
---@param max integer      1 to 100,000
---@param types table<string, any>?  only types that are true here
---@param journals boolean?          journals of processes too
---@return table[]? events  as in read
---@return integer|catga.Error position  looked at up to here: the next `after`
function Store:read_all(after, max, types, journals) end

--- A reader of durable records in the order of positions, with a place of its own. What the filter
--- leaves out costs no Lua. Its methods raise once it or the store is closed.
---@class catga.Cursor
local Cursor = {}

--- A cursor at the first record above a position. Bookkeeping of the runtime is left out.
---@param after integer    position; 0: from the first
---@param filter { types: string[]?, type_prefix: string?, category: string?, stream: string?,
---  journals: boolean?, personal: boolean? }?  all that is given must hold; personal: events with
---  encrypted fields only; types: one of at most 10,000; category: the
---  stream's name up to its first "-"; journals: those of processes too
---@return catga.Cursor cursor
function Store:cursor(after, filter) end

--- The next events. Looks at no more than 100,000 records, and 8 MiB of data of those it gives.
---@param max integer  1 to 100,000
---@return table[]? events  as in read
---@return integer|catga.Error position  looked at up to here; behind an error the cursor is of no
---  more use
---@return integer? bytes  of their data
function Cursor:next(max) end

--- The position up to which it has looked.
---@return integer
function Cursor:position() end

--- Frees what it has of the store; may be called again.
function Cursor:close() end

--- Parks until a record above a position is durable; not counted as work that `settle` waits for.
--- May yield.
---@param position integer
---@return boolean? ok     nothing when the wait was interrupted
---@return catga.Error? err  "failed", "fenced", "closed"
function Store:wait_growth(position) end

--- Starts a commit; one that is being built is rolled back: a script that ran out of memory may
--- have left it. Raises in a task that cannot wait.
function Store:begin() end

--- Adds a record to the commit. After an error the commit must be rolled back.
---@param stream integer
---@param expected integer  version it must follow; -1 any, -2 none, -3 at least one
---@param type string
---@param data string       JSON
---@param metadata string?  JSON
---@param flags integer?    see lua/catga/flags.lua
---@return integer? version
---@return string|catga.Error id  or "conflict", ...
function Store:add(stream, expected, type, data, metadata, flags) end

--- Puts a condition on the commit: the version that a stream must have which the commit does not
--- write. A stream that is not there has no record.
---@param stream_name string
---@param expected integer  as in add
---@return true? ok
---@return catga.Error? err  "conflict"
function Store:expect(stream_name, expected) end

--- Ends the commit: all of its records or none. Durable after wait(after - 1).
---@return integer? first     position of the first record
---@return integer|catga.Error after  position after the last, or "limit" (much is pending, or the
---  commit is too large), "failed", "fenced", "disk_full"
function Store:commit() end

--- Forgets the commit that is being built, if there is one.
function Store:rollback() end

--- Why the log takes no more commits, known at once; nil: it does.
---@return catga.Error? err  "failed" or "fenced"
function Store:failure() end

--- Parks until a position is durable; at once when it is. May yield; cannot be interrupted.
---@param position integer
---@return boolean ok
---@return catga.Error? err  "failed", "fenced", "closed"
function Store:wait(position) end

--- Adds one record with the data {<head>"<field>":<value><tail>} to the commit that is being built,
--- or to one of its own, commits, and parks until it is durable. nil is written as "nil":true. May
--- yield.
---@param stream integer
---@param type string
---@param flags integer
---@param head string   JSON of further fields, each with its comma
---@param field string
---@param value any
---@param tail string?  JSON of further fields, each after its comma
---@return boolean ok
---@return any value    decoded from the bytes stored; false: catga.Error "invalid" with the path of
---  what cannot be stored, "limit", "conflict" of the commit, "failed", ...
---@return integer? time  of the record
function Store:journal(stream, type, flags, head, field, value, tail) end

--- A new id, never given before by this store, also before a restart.
---@return string? id
---@return catga.Error? err
function Store:new_id() end

--- JSON of a value, within message_size_max.
---@param value any
---@param name string?  what it is, for the path in errors; default "data"
---@return string? json
---@return catga.Error? err  "invalid", "limit"
function Store:encode(value, name) end

--- JSON of arguments; nil keeps its place.
---@return string? json
---@return catga.Error? err
function Store:encode_args(...) end

--- Where the log stands.
---@return integer next      position that the next record gets
---@return integer durable   all below it is durable
function Store:positions() end

--- The id of the log, the same for all its life; only zeros for a log in memory.
---@return string id  32 hexadecimal digits
function Store:log_id() end

--- The sealed segments of the log, the oldest first; none without files.
---@return { number: integer, first_position: integer, end_position: integer, sealed: number,
---  size: integer, compressed: boolean }[] seals  sealed: Unix ms; size: bytes of the file
function Store:seals() end

--- Begins to look at a sealed segment: the next calls are about it, in this order.
---@param number integer
---@return true? ok
---@return catga.Error? err  "busy": one is being rewritten; "not_found"
function Store:scavenge_begin(number) end

--- Reads on to find the streams of the segment.
---@param max integer      records
---@return boolean? is_done
---@return catga.Error? err
function Store:scavenge_survey(max) end

--- Names of streams that the survey has found.
---@param from integer  number of the first, from 1
---@param max integer
---@return string[] names
function Store:scavenge_names(from, max) end

--- Says what is kept of a stream; until then, all of it.
---@param number integer        of the stream
---@param first integer         records of lower versions go
---@param since number          older ones go as well (Unix ms)
---@param kept integer          this version stays all the same; -1: none
---@param keeps_first boolean?  version 0 stays
function Store:scavenge_decide(number, first, since, kept, keeps_first) end

--- May anything go, by the decisions?
---@return boolean
function Store:scavenge_may_drop() end

--- Reads the records again to see how much goes.
---@param max integer      records
---@return boolean? is_done
---@return catga.Error? err
function Store:scavenge_weigh(max) end

--- What the weighing has found.
---@return { records: integer, bytes: integer, dropped: integer, dropped_bytes: integer } weight
function Store:scavenge_weight() end

--- Begins to write the segment anew; ask scavenge_done until it is done.
---@param number integer
---@param drops boolean     without what the decisions let go
---@param compress boolean  in zstd blocks
---@return true? ok
---@return catga.Error? err  "busy": ask again later
function Store:scavenge_rewrite(number, drops, compress) end

--- What came of it.
---@return boolean? is_done
---@return catga.Error? err
function Store:scavenge_done() end

--- Lets go of the segment.
function Store:scavenge_end() end

--- Counters.
---@return { commit_count: integer, sync_count: integer, write_bytes: integer,
---  segment_count: integer, cut_bytes: integer, written_position: integer }
function Store:stats() end

--- Does one batch of a manual store's writing.
---@return boolean did_any
function Store:turn() end

--- The commits that lie wholly below a position, for `memory`.
---@param until_position integer
---@return catga.MemoryLog
---@return integer position  behind the last record
function Store:snapshot(until_position) end

--- Writes what is pending and closes; tasks that wait for it are woken.
---@return true? ok
---@return catga.Error? err  what was pending is not durable
function Store:close() end

--- Closes as a crash would: nothing pending is kept; tasks that wait get the error "closed".
function Store:abandon() end

return M
