-- KEYS     messages, counters, queues, the block of one queue
-- ARGV     offset, 1, queue name, ready or scheduled or dead, limit
-- returns  how many messages were dropped
-- One step for at most `limit` messages; call again while it finds as many.

local state, limit = ARGV[BODY], tonumber(ARGV[BODY + 1])
local ids = {}

if state == 'ready' then
  for priority = 9, 0, -1 do
    if #ids == limit then
      break
    end
    for _, id in ipairs(call('LPOP', part(0, READY + priority), limit - #ids) or {}) do
      ids[#ids + 1] = id
    end
  end
elseif state == 'scheduled' then
  local popped = call('ZPOPMIN', part(0, SCHEDULED), limit)
  for index = 1, #popped, 2 do
    ids[#ids + 1] = sub(popped[index], 3)
  end
else
  local popped = call('ZPOPMIN', part(0, DEAD), limit)
  for index = 1, #popped, 2 do
    ids[#ids + 1] = popped[index]
  end
  many('HDEL', part(0, REASONS), ids)
end
many('HDEL', MESSAGES, ids)
many('HDEL', COUNTERS, ids)
return #ids
