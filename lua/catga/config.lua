--- Values for scripts: what differs between one installation and another.
---
---   -- catga.lua
---   return { config = { log_path = "/var/log/dpkg.log", shop = { url = "https://shop" } } }
---   -- a script
---   local path = catga.config.get("log_path", { required = true })
---   local url = catga.config.get("shop.url")
---
--- The command line (catga run --config shop.url=http://localhost) goes before the environment
--- (CATGA_CONFIG_SHOP_URL), that before catga.lua, that before the default. Values from outside are
--- text and become what is asked for: `type`, else as in catga.lua, else as the default.
local state = require "catga.state"
local duration = require "catga.duration"
local face = require "catga.face"
local registries = require "catga.registry"
local json = require "catga.native.json"
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

local OPTIONS = { default = true, required = true, type = true, secret = true }
local TYPES = { string = true, number = true, boolean = true, duration = true, size = true,
  list = true, table = true }
local BOOLEANS = { ["true"] = true, yes = true, on = true, ["1"] = true, ["false"] = false,
  no = false, off = false, ["0"] = false }
local SECRETS = { "password", "passwd", "secret", "token", "key", "credential" }
local SHOWN = "***"
local DEPTH_MAX = 8

local secret_names = setmetatable({}, { __mode = "k" }) -- By app, what a script called so.

local function check_value(path, value, depth)
  local kind = type(value)
  if kind == "string" or kind == "boolean" then return end
  if kind == "number" and value == value and math.abs(value) ~= math.huge then return end
  if kind ~= "table" or depth > DEPTH_MAX then
    error(("config.%s must be text, a number, a boolean or a table of them, got %s"):format(path,
      kind), 0)
  end
  for name, below in pairs(value) do
    if type(name) ~= "string" and type(name) ~= "number" then
      error(("config.%s: a name is text, got %s"):format(path, type(name)), 0)
    end
    check_value(path .. "." .. name, below, depth + 1)
  end
end

--- Checks the setting `config` of catga.lua.
---@param given any
---@return table config
function M.check(given)
  if type(given) ~= "table" then error("config must be a table, got " .. type(given), 0) end
  for name, value in pairs(given) do
    if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
      error(("config: %s is no name; use letters, digits and _"):format(tostring(name)), 0)
    end
    check_value(name, value, 1)
  end
  return given
end

--- The environment variable of a name.
---@param name string  "shop.url"
---@return string      "CATGA_CONFIG_SHOP_URL"
function M.variable(name) return "CATGA_CONFIG_" .. name:upper():gsub("[^%w]", "_") end

-- What a table holds at a path: "shop.url".
local function at_path(values, name)
  local value = values
  for part in name:gmatch("[^.]+") do
    if type(value) ~= "table" then return nil end
    value = value[part]
  end
  return value
end

local function is_secret(app, name)
  if secret_names[app] and secret_names[app][name] then return true end
  local lower = name:lower()
  for _, word in ipairs(SECRETS) do
    if lower:find(word, 1, true) then return true end
  end
  return false
end

local function wrong(app, name, value, what)
  error(("config %s: %s is no %s"):format(name, is_secret(app, name) and "its value"
    or ("\"%s\""):format(tostring(value)), what), 0)
end

local convert = {}

function convert.string(_, _, value) return tostring(value) end

function convert.number(app, name, value)
  local number = tonumber(value)
  if not number or number ~= number then wrong(app, name, value, "number") end
  return number
end

function convert.boolean(app, name, value)
  if type(value) == "boolean" then return value end
  local flag = BOOLEANS[tostring(value):lower()]
  if flag == nil then wrong(app, name, value, "boolean (true or false)") end
  return flag
end

function convert.duration(app, name, value)
  if not duration.parse(value) then wrong(app, name, value, "duration such as \"5s\"") end
  return value
end

function convert.size(app, name, value)
  local size = require("catga.settings").size
  if not pcall(size, value, name) then wrong(app, name, value, "size such as \"1MiB\"") end
  return value
end

function convert.list(app, name, value)
  if type(value) == "table" then return value end
  if type(value) ~= "string" then wrong(app, name, value, "list") end
  local list = {}
  for item in value:gmatch("[^,]+") do list[#list + 1] = item:match("^%s*(.-)%s*$") end
  return list
end

function convert.table(app, name, value)
  if type(value) == "table" then return value end
  local decoded = type(value) == "string" and json.decode(value)
  if type(decoded) ~= "table" then wrong(app, name, value, "table (JSON)") end
  return decoded
end

-- The app, also while its scripts load.
local function app_of(what)
  if state.loading and state.loading.app then return state.loading.app end
  return face.running(what, "a value may change between two starts; read it in a step, or at the "
    .. "top level of the script", 4)
end

local function check_options(name, opts)
  if type(name) ~= "string" or not name:find("^[%a_][%w_.]*$") then
    error("catga.config.get needs a name such as \"shop.url\"", 3)
  end
  for option in raw_pairs(opts) do
    if not OPTIONS[option] then
      local near = registries.suggest(tostring(option), OPTIONS)
      error(("catga.config.get: unknown option %s; there are %s%s"):format(tostring(option),
        table.concat(registries.sorted_names(OPTIONS), ", "),
        near and "; did you mean " .. near .. "?" or ""), 3)
    end
  end
  if opts.type ~= nil and not TYPES[opts.type] then
    error(("catga.config.get: there is no type %s; there are %s"):format(tostring(opts.type),
      table.concat(registries.sorted_names(TYPES), ", ")), 3)
  end
end

-- What was given for a name, and what catga.lua has.
local function lookup(app, name)
  local in_file = at_path(app.settings.config, name)
  local given = app.config and app.config[name]
  if given == nil and app.config then given = at_path(app.config, name) end
  if given == nil then given = os.getenv(M.variable(name)) end
  return given, in_file
end

local function is_list(value)
  return type(value) == "table" and (value[1] ~= nil or next(value) == nil)
end

local function kind_of(opts, in_file, default)
  if opts.type then return opts.type end
  local like = in_file
  if like == nil then like = default end
  if is_list(like) then return "list" end
  local kind = type(like)
  return kind ~= "nil" and kind or "string"
end

--- The value of a name.
---@param name string  "log_path", "shop.url"
---@param opts { default: any, required: boolean?, type: string?, secret: boolean? }?  required:
---  raises when there is none; type: "string", "number", "boolean", "duration", "size", "list"
---  (from outside a,b,c), "table" (from outside JSON); secret: not shown by list, or in errors.
---  Names with password, secret, token or key in them are secret anyway
---@return any value  nil: there is none
function M.get(name, opts)
  local app = app_of "catga.config.get"
  opts = opts or {}
  check_options(name, opts)
  if opts.secret then
    secret_names[app] = secret_names[app] or {}
    secret_names[app][name] = true
  end
  local given, in_file = lookup(app, name)
  local value = given
  if value == nil then value = in_file end
  if value == nil then value = opts.default end
  if value == nil then
    if opts.required then
      error(("config %s has no value; give it in catga.lua as config = { %s = ... }, by %s, or "
        .. "by --config %s=..."):format(name, name:match "^[^.]+", M.variable(name), name), 2)
    end
    return nil
  end
  local ok, result = pcall(convert[kind_of(opts, in_file, opts.default)], app, name, value)
  if ok then return result end
  error(result, 2)
end

-- All names of a table of values, "shop.url".
local function collect(values, prefix, into)
  for name, value in raw_pairs(values) do
    local path = prefix .. tostring(name)
    if type(value) == "table" and not is_list(value) then
      collect(value, path .. ".", into)
    else
      into[path] = value
    end
  end
  return into
end

--- All values by name, as they are in force, secrets as "***".
---@return table<string, any>
function M.list()
  local app = app_of "catga.config.list"
  local list = collect(app.settings.config, "", {})
  collect(app.config or {}, "", list)
  for name in pairs(list) do
    local value = M.get(name)
    list[name] = is_secret(app, name) and SHOWN or value
  end
  return list
end

return M
