-- Script of wrk.sh: sends the tokens of a corpus in turn, and checks status and reason of each.
-- Arguments: the corpus, and the file for the result. Each thread has one connection, so a response
-- belongs to the last request of its thread.

local threads = {}

function setup(thread)
  thread:set("first", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  result_file, tokens, next_token = arguments[2], {}, first * 7919
  right, wrong, example = 0, 0, ""
  for line in io.lines(arguments[1]) do
    local kind, status, _, token, reason = line:match("^(%S+)\t(%d+)\t(%S*)\t(%S+)\t(.*)$")
    local headers = { Authorization = "Bearer " .. token }
    local wire = wrk.format("GET", nil, headers)
    local expected = { kind = kind, status = tonumber(status), reason = reason, wire = wire }
    table.insert(tokens, expected)
  end
end

function request()
  current = tokens[next_token % #tokens + 1]
  next_token = next_token + 1
  return current.wire
end

function response(status, headers, body)
  local challenge = headers["www-authenticate"] or ""
  if status == current.status and challenge:find(current.reason, 1, true) then
    right = right + 1
  else
    wrong = wrong + 1
    example = string.format("%s: expected %d %s, got %d %s", current.kind, current.status,
      current.reason, status, challenge)
  end
end

-- Runs once at the end, in a Lua state of its own.
function done(summary, latency)
  local wrong = 0
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    if thread:get("wrong") > 0 then
      print("wrong answer to " .. thread:get("example"))
    end
  end
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  local result = assert(io.open(threads[1]:get("result_file"), "w"))
  result:write("wrong ", wrong, "\n")
  result:write("errors ", failed, "\n")
  result:write(string.format("rate %.0f\n", summary.requests / summary.duration * 1e6))
  result:write(string.format("p99_ms %.3f\n", latency:percentile(99) / 1000))
  result:close()
end
