-- What wrk sends, and the one line it prints for load.py.
-- Each thread makes its own requests once, in init, so that sending costs nothing but a table look-up: the cores are shared
-- with what is measured. No `response` function: with one, wrk would parse and copy every reply.

local BODIES = 4096
local FEATURES = 10
local requests = {}
local sent = 0
local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("thread_number", threads)
end

function init(args)
   sent = tonumber(args[1] or 0) -- how many inputs were sent before: a run may go on where another ended
   math.randomseed(thread_number)
   local headers = { ["Content-Type"] = "application/json" }
   for i = 1, BODIES do
      local values = {}
      for j = 1, FEATURES do
         -- 17 digits, as the diabetes data has them: shorter numbers would be cheaper to parse than real ones
         values[j] = string.format("%.17g", (math.random() - 0.5) * 0.3)
      end
      local body = '{"input":[' .. table.concat(values, ",") .. "]}"
      requests[i] = wrk.format("POST", nil, headers, body)
   end
end

function request()
   sent = sent + 1
   return requests[sent % BODIES + 1]
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"requests":%d,"duration_s":%.6f,"p50_ms":%.4f,"p90_ms":%.4f,"p99_ms":%.4f,"max_ms":%.4f,'
         .. '"refused":%d,"connect_errors":%d,"read_errors":%d,"write_errors":%d,"timeouts":%d}\n',
      summary.requests, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
      errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
