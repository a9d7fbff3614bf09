--- File processing: download, convert, upload. A failed upload begins again with the download, up
--- to three times; the downloaded file goes away whatever happens.
local catga = require "catga"

local File = catga.process "File"

File.settings = {
  download = { timeout = "10m" }, convert = { timeout = "1h" }, upload = { attempts = 1 },
}

function File:execute(file)
  local failure
  for try = 1, 3 do
    local path = self:download(file.url, try)
    local ok, place = pcall(function() return self:upload(self:convert(path)) end)
    self:remove(path)
    if ok then return { place = place, tries = try } end
    failure = place
    self:sleep("1m")
  end
  error(failure)
end

function File:download(url, try) return self:send("Download", { url = url, try = try }) end
function File:convert(path) return path .. ".converted" end
function File:upload(path) return self:send("Upload", { path = path }) end
function File:remove(path) self:send("Remove", { path = path }) end

-- Stand for what is outside.
catga.command("Download", function(cmd) return ("/tmp/%s-%d"):format(cmd.url, cmd.try) end)
catga.command("Upload", function(cmd) return "bucket" .. cmd.path end)
catga.command("Remove", function(cmd)
  assert(catga.events.append("Removed", { { type = "FileRemoved", data = { path = cmd.path } } }))
end)
