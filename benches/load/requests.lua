-- Builds requests once, before anything is measured, spread over the patients of many users.
--
-- Whose patients: TARGETS names a file with lines of a token and the first and last id of a range
-- of that user's patients; or TOKEN, FIRST and LAST give one such line.

local folder = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
dofile(folder .. "report.lua")

-- How many different requests a thread has: enough to leave no row in a processor's cache, and few
-- enough to be built within a second.
local DIFFERENT = 20000

local function read_targets()
    local file, targets = os.getenv("TARGETS"), {}
    if not file then
        local token = os.getenv("TOKEN") or error("set TARGETS, or TOKEN, FIRST and LAST")
        local first = tonumber(os.getenv("FIRST") or 1)
        return {{token = token, first = first, last = tonumber(os.getenv("LAST") or first)}}
    end
    for line in io.lines(file) do
        local token, first, last = line:match("^(%S+)%s+(%d+)%s+(%d+)$")
        if not token then
            error(file .. " has a line that is not: token first last")
        end
        targets[#targets + 1] = {token = token, first = tonumber(first), last = tonumber(last)}
    end
    return targets
end

local threads = 0

-- Threads that drew the same numbers would ask for the same rows at the same time.
function setup(thread)
    threads = threads + 1
    thread:set("seed", threads)
end

local built, turn = {}, 0

-- Has a thread send what `make(target)` gives for targets drawn at random, in turn.
function spread(make)
    function init()
        math.randomseed(seed)
        local targets = read_targets()
        for i = 1, DIFFERENT do
            built[i] = make(targets[math.random(#targets)])
        end
    end

    function request()
        turn = turn % DIFFERENT + 1
        return built[turn]
    end
end

local function send(target, method, path, body)
    local headers = {Authorization = "Bearer " .. target.token}
    if body then
        headers["Content-Type"] = "application/json"
    end
    return wrk.format(method, path, headers, body)
end

local function any_id(target)
    return math.random(target.first, target.last)
end

-- The requests that the scripts mix.

function get(target)
    return send(target, "GET", string.format("/api/patients/%d", any_id(target)))
end

-- A page that is full, as far as the range has 50 patients.
function page(target)
    local after = math.random(target.first, math.max(target.first, target.last - 49)) - 1
    return send(target, "GET", string.format("/api/patients?limit=50&after=%d", after))
end

-- The same values as in create.sql.
local NEW_PATIENT = ([[{"name":"Grace Hopper","age":36,"gender":"female",
"date_of_birth":"1990-02-28","phone":"+44 20 7946 0958","email":"grace@example.com",
"address":"12 Long Lane, London","blood_group":"O+","allergies":"penicillin",
"medical_history":"Asthma since childhood, well controlled.",
"notes":"Prefers to be called in the morning.","emergency_contact_name":"Ada Lovelace",
"emergency_contact_phone":"+44 20 7946 0123","metadata":{"ward": "7b"}}]]):gsub("\n", "")

function create(target)
    return send(target, "POST", "/api/patients", NEW_PATIENT)
end

-- Nearly always a change, as the age that was set before is hardly ever the same.
function update(target)
    local path = string.format("/api/patients/%d", any_id(target))
    return send(target, "PATCH", path, string.format('{"age":%d}', math.random(0, 150)))
end

function doctors(target)
    return send(target, "GET", string.format("/api/mappings/%d", any_id(target)))
end
