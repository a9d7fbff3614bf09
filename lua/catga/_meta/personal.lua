---@meta catga.native.personal

-- Annotations of the module catga.native.personal, which is C (src/bind/bind_personal.c): keys of
-- persons, and encryption with them. For editors only: this file is never loaded.
--
-- What changes keys is in memory at once and on the disk once wait(change) has returned.

local M = {}

--- The keys of an app. Every method but close raises once they are closed.
---@class catga.PersonalKeys
local Keys = {}

--- Opens libcrypto and the keys, and reads the file once. Raises for options of a wrong type.
---@param options { directory: string?, clock: catga.Clock, cached_max: integer,
---  master_file: string?, master_old_file: string? }
---  directory: must be there, the file `keys` in it is made when missing; without it the keys are
---  in memory. master_file: of the key that wraps the others; master_old_file: of the one before
---@return catga.PersonalKeys? keys
---@return catga.Error? err  "not_found": no libcrypto, or no master file; "invalid": the master key
---  is missing or another; "corrupt", "io_error", ...
function M.open(options) end

--- The newest key of a subject.
---@param subject string
---@return string? key  its name; nothing: it never had one
---@return boolean|catga.Error? forgotten  it is destroyed
function Keys:find(subject) end

--- Encrypts with the key of a subject, which is made when there is none.
---@param subject string      1 to 128 bytes
---@param may_return boolean  make a new key for one that was forgotten
---@param bound string        must be the same for unseal
---@param plain string
---@return string? sealed     base64
---@return string|catga.Error key  its name; "forgotten", "invalid", "limit", "failed"
---@return integer change     to wait for before what was sealed may become durable
function Keys:seal(subject, may_return, bound, plain) end

--- Encrypts with a key that there is. Raises for what is no name of a key.
---@param key string
---@param bound string
---@param plain string
---@return string? sealed     base64
---@return catga.Error? err   "forgotten", "not_found", "corrupt"
function Keys:seal_with(key, bound, plain) end

--- Decrypts.
---@param key string    name of the key
---@param bound string
---@param sealed string base64
---@return string? plain
---@return catga.Error? err  "forgotten"; "not_found": there is no such key; "corrupt"
function Keys:unseal(key, bound, sealed) end

--- A digest of a subject that tells nobody who it is.
---@param subject string
---@return string? digits  64 hexadecimal digits
---@return catga.Error? err
function Keys:digest(subject) end

--- Destroys a key; one that is destroyed already is left.
---@param key string
---@param digest string?  of its subject: counts as forgotten also when the key is not there
---@return integer? change   to wait for
---@return boolean|catga.Error is_there  was it in the file?
function Keys:forget(key, digest) end

--- Lists keys in the order in which they were made. Looks at 100,000 at most.
---@param prefix string      of the subject
---@param after integer      where the last call ended; 0: from the first
---@param max integer        1 to 10,000
---@param forgotten boolean  also those that are destroyed, whatever their subject was
---@return { number: integer, key: string, time: integer, forgotten: boolean,
---  subject: string? }[]? list
---@return integer|catga.Error after  for the next call
---@return boolean more
function Keys:list(prefix, after, max, forgotten) end

--- Keys that the file held damaged when it was opened.
---@return integer
function Keys:damaged_count() end

--- Changes made so far.
---@return integer
function Keys:queued() end

--- Parks until a change is durable; what waits at the same time shares a sync. May yield; cannot
--- be interrupted.
---@param change integer
---@return boolean ok
---@return catga.Error? err  "disk_full" and the like: it is tried again by the next wait; "failed":
---  a sync has failed, nothing is written any more; "closed"
function Keys:wait(change) end

--- Writes what is pending at once, without letting anything else run: for opening.
---@return true? ok
---@return catga.Error? err
function Keys:flush() end

--- Wipes the keys; tasks that wait get an error. May be called again.
function Keys:close() end

return M
