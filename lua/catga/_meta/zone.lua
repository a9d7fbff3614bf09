---@meta catga.native.zone

-- Annotations of the module catga.native.zone, which is C (src/bind/bind_zone.c): time zones of the
-- system's zoneinfo. For editors only: this file is never loaded.

local M = {}

--- A time zone.
---@class catga.Zone
local Zone = {}

--- Reads a time zone.
---@param directory string  "/usr/share/zoneinfo"
---@param name string       "Europe/Berlin"
---@return catga.Zone? zone
---@return catga.Error? err  "invalid": no such name can be; "not_found", "corrupt", "io_error"
function M.open(directory, name) end

--- The stretch of time with one offset that holds a moment. Its neighbours may have the same one.
--- Raises for a time outside of the years 1 to 9999.
---@param seconds number  since 1970
---@return integer offset  seconds that local time is ahead of UTC
---@return integer begin   its first second since 1970
---@return integer finish  the second after its last
---@return integer before  the offset of the second before `begin`
function Zone:span(seconds) end

return M
