-- One patient by id. See requests.lua for whose:
--
--     TOKEN=... FIRST=1 LAST=1000 wrk -t2 -c64 -d10 --latency -s get.lua http://127.0.0.1:8080

dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "requests.lua")

spread(get)
