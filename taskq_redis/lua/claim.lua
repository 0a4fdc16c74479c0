-- KEYS     messages, counters, queues, a block for each queue
-- ARGV     offset, n, n queue names, limit, lease µs, token
-- returns  {now, ids, records, counters} of what was claimed; else {now, µs
--          until the next message is due or a lease ends, -1 if there is none}
-- One step: a message leaves READY with its lease in PROCESSING, or stays.

local limit, lease, suffix = tonumber(ARGV[BODY]), tonumber(ARGV[BODY + 1]), ' ' .. ARGV[BODY + 2]
local now = present()
local lease_end = text(now + lease)

for queue = 0, queue_count - 1 do
  reclaim(queue, now, limit)
  promote(queue, now, limit)
end

local ids, left = {}, limit
for queue = 0, queue_count - 1 do
  local leases = {}
  for priority = 9, 0, -1 do
    if left == 0 then
      break
    end
    local got = call('LPOP', part(queue, READY + priority), left) or {}
    for index = 1, #got do
      ids[#ids + 1] = got[index]
      leases[#leases + 1], leases[#leases + 2] = lease_end, priority .. got[index] .. suffix
    end
    left = left - #got
  end
  many('ZADD', part(queue, PROCESSING), leases)
end

if #ids > 0 then
  if left == 0 then
    for queue = 0, queue_count - 1 do
      local first = FIXED + queue * BLOCK + READY
      if call('EXISTS', unpack(KEYS, first, first + 9)) > 0 then
        wake(queue)
      end
    end
  end
  return { now, ids, ask('HMGET', MESSAGES, ids), ask('HMGET', COUNTERS, ids) }
end

local next_event = -1
for queue = 0, queue_count - 1 do
  for _, which in ipairs({ PROCESSING, SCHEDULED }) do
    local at = call('ZRANGE', part(queue, which), 0, 0, 'WITHSCORES')[2]
    if at then
      local rest = math.max(at - now, 0)
      next_event = next_event < 0 and rest or math.min(next_event, rest)
    end
  end
end
return { now, next_event }
