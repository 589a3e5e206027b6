-- What a busy clinic may do: 80% get, 10% page, 5% create, 5% update. See requests.lua for whose:
--
--     TOKEN=... FIRST=1 LAST=1000 wrk -t2 -c64 -d10 --latency -s mixed.lua http://127.0.0.1:8080

dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "requests.lua")

spread(function(target)
    local share = math.random(100)
    if share <= 80 then
        return get(target)
    elseif share <= 90 then
        return page(target)
    elseif share <= 95 then
        return create(target)
    else
        return update(target)
    end
end)
