--- catga.fs.lines: a file line by line, whatever its size.
---
---   for line, next_offset in assert(catga.fs.lines("orders.csv", { from = offset })) do ... end
local errors = require "catga.error"
local settings = require "catga.settings"
local effect = require "catga.face".effect
local call = require "catga.fs.call"

local M = {}

M.CHUNK_BYTES = 65536 -- Of one read.
local OPTIONS = { from = true, line_max = true }

--- Bytes of an open file, cut into lines.
---@class catga.LineReader
---@field app catga.App
---@field file catga.File
---@field path string
---@field offset integer    of the first byte that is not in `text`
---@field text string       bytes of lines that were not given
---@field place integer     of the first of them
---@field line_max integer
local Reader = {}
Reader.__index = Reader

--- A reader of an open file.
---@param app catga.App
---@param path string  for messages
---@param file catga.File
---@param offset integer
---@param line_max integer
---@return catga.LineReader
function M.reader(app, path, file, offset, line_max)
  return setmetatable({ app = app, path = path, file = file, offset = offset, text = "",
    place = 1, line_max = line_max }, Reader)
end

--- The offset behind what was given.
---@return integer
function Reader:given() return self.offset - #self.text + self.place - 1 end

--- The next line that is there as a whole; nil: more has to be read.
---@return string?
function Reader:take()
  local at = self.text:find("\n", self.place, true)
  if not at then return nil end
  local line = self.text:sub(self.place, at - 1)
  self.place = at + 1
  return line
end

--- Reads on. May yield.
---@return integer? count    bytes; 0: the file ends here
---@return catga.FileInfo|catga.Error|nil info_or_err  "too_large": a line is too long
function Reader:fill()
  local rest = self.text:sub(self.place)
  if #rest > self.line_max then
    return nil, errors.new("too_large", ("%s: the line at byte %d is over %d bytes (line_max)")
      :format(self.path, self:given(), self.line_max))
  end
  local bytes, info = call.read(self.app, self.file, self.offset, M.CHUNK_BYTES)
  if not bytes then return nil, info end
  self.text, self.place = rest .. bytes, 1
  self.offset = self.offset + #bytes
  return #bytes, info
end

--- What is left when the file has ended without a line end.
---@return string?
function Reader:rest()
  local rest = self.text:sub(self.place)
  self.text, self.place = "", 1
  return rest ~= "" and rest or nil
end

function Reader:close() self.file:close() end

--- Lines of a file: for line, next_offset in lines do ... end
---@class catga.Lines
---@field reader catga.LineReader
local Lines = {}
Lines.__index = Lines

--- Opens a file to go through its lines. May yield.
---@param path string
---@param opts { from: integer?, line_max: string? }?  from: byte offset, as a loop before gave it
---@return catga.Lines? lines
---@return catga.Error? err
function M.open(path, opts)
  local what = "catga.fs.lines"
  local app = effect(what, 3)
  call.check_path(what, path, 2)
  opts = call.check_options(what, opts, OPTIONS, 2)
  local from = opts.from or 0
  if type(from) ~= "number" or from < 0 or from % 1 ~= 0 then
    error(what .. ": from is a byte offset, a whole number from 0", 2)
  end
  local line_max = opts.line_max and settings.size(opts.line_max, what .. ": line_max")
    or app.settings.fs_line_max
  local file, err = call.run(app, "open", { path = path })
  if not file then return nil, err end
  return setmetatable({ reader = M.reader(app, path, file, from, line_max) }, Lines)
end

--- The next line, without its end, and the offset behind it; nil at the end of the file. May
--- yield.
---@return string? line
---@return integer|catga.Error|nil next_offset_or_err
function Lines:read()
  local reader = self.reader
  while not self.is_closed do
    local line = reader:take()
    if line then return line, reader:given() end
    effect("catga.fs.lines", 3)
    local count, err = reader:fill()
    if not count then return nil, err end
    if count == 0 then
      line = reader:rest()
      self:close()
      return line, line and reader:given()
    end
  end
end

--- As read, for loops: what cannot be read raises.
function Lines:__call()
  local line, offset = self:read()
  if line or not offset then return line, offset end
  error(offset, 0)
end

--- Ends it early; else the file is closed at its end, or when nobody holds the lines any more.
--- Harmless when repeated.
function Lines:close()
  if self.is_closed then return end
  self.is_closed = true
  self.reader:close()
end

return M
