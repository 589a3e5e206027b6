-- What every script prints at its end: one line of JSON for `run`, and errors in words. By itself
-- it repeats the one request of wrk's command line:
--
--     wrk -t2 -c64 -d10 --latency -s report.lua http://127.0.0.1:8080/health/live

-- The standard output has wrk's own report, so that both can be read.
function done(summary, latency, requests)
    local errors = summary.errors
    -- wrk counts what is over 399; nothing here is answered by a redirect.
    print(string.format(
        'result {"requests":%d,"seconds":%.3f,"bytes":%d,"p50":%d,"p99":%d,"max":%d,'
            .. '"not_2xx":%d,"broken":%d}',
        summary.requests, summary.duration / 1e6, summary.bytes,
        latency:percentile(50), latency:percentile(99), latency.max,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout
    ))
    if errors.status > 0 then
        print(errors.status .. " answers were not 2xx")
    end
end
