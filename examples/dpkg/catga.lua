-- Settings; each value of config can be given by --config NAME=VALUE or CATGA_CONFIG_NAME.
return {
  config = {
    path = "/var/log/dpkg.log",
    once = false,     -- true: end when all that the log holds is done, with a summary
    stalled = "1d",   -- a package that hears nothing for so long is given up
  },
}
