-- KEYS     messages, counters, queues, a block for each queue
-- ARGV     offset, n, n queue names, promote or reclaim or expire, limit, age µs
-- returns  how many messages were moved, or dropped from the dead letters
-- One step for at most `limit` messages.

local step, left, age = ARGV[BODY], tonumber(ARGV[BODY + 1]), tonumber(ARGV[BODY + 2])
local now, total = present(), 0

local function expire(queue)
  local ids = call('ZRANGEBYSCORE', part(queue, DEAD), '-inf', '(' .. text(now - age), 'LIMIT', 0, left)
  many('ZREM', part(queue, DEAD), ids)
  many('HDEL', part(queue, REASONS), ids)
  many('HDEL', MESSAGES, ids)
  return #ids
end

for queue = 0, queue_count - 1 do
  if left == 0 then
    break
  end
  local moved
  if step == 'expire' then
    moved = expire(queue)
  else
    moved = (step == 'promote' and promote or reclaim)(queue, now, left)
    if moved > 0 then
      wake(queue)
    end
  end
  left, total = left - moved, total + moved
end
return total
