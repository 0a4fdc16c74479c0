-- KEYS     messages, counters, queues, a block for each queue
-- ARGV     offset, n, n queue names
-- returns  for each queue {ready, scheduled, processing, dead, age µs of the
--          message that a claim would take next, -1 if nothing is ready}
-- One step.

local now, lines = present(), {}
for queue = 0, queue_count - 1 do
  local ready, age = 0, -1
  for priority = 9, 0, -1 do
    local length = call('LLEN', part(queue, READY + priority))
    if length > 0 and ready == 0 then
      local record = call('HGET', MESSAGES, call('LINDEX', part(queue, READY + priority), 0))
      local sent = record and string.match(record, '^%d %d+ %d+ %S+ (%d+) ') or now
      age = math.max(now - sent, 0)
    end
    ready = ready + length
  end
  lines[#lines + 1] = {
    ready,
    call('ZCARD', part(queue, SCHEDULED)),
    call('ZCARD', part(queue, PROCESSING)),
    call('ZCARD', part(queue, DEAD)),
    age,
  }
end
return lines
