-- Asks for every route in turn; the requests are made once, so that the client costs little beside the proxy.
-- At the end one line of JSON, the last of the output: what load.py reads.

local requests = {}
local last = 0

function init(args)
  for route = 1, tonumber(args[1]) do
    requests[route] = wrk.format("GET", string.format("/route-%d/%s", route - 1, args[2]))
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "p99_microseconds": %d, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}\n',
    summary.requests, summary.duration, latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
