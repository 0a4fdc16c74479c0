-- Part of the scripts that move what time has moved: `reclaim` and `promote`.
-- Both remove first and add then: once a script has written, a server out of
-- memory lets it finish.

local LONGEST_BACKOFF = 60

-- Take back up to `limit` messages of the queue whose lease has ended; return how many.
local function reclaim(queue, now, limit)
  local members = call('ZRANGEBYSCORE', part(queue, PROCESSING), '-inf', text(now), 'LIMIT', 0, limit)
  if #members == 0 then
    return 0
  end
  many('ZREM', part(queue, PROCESSING), members)
  local ids = {}
  for index = 1, #members do
    ids[index] = string.match(members[index], '^%d(%S+)')
  end
  local records = ask('HMGET', MESSAGES, ids)
  local counters = ask('HMGET', COUNTERS, ids)
  local heads, later, changed, dead, reasons, uncounted = {}, {}, {}, {}, {}, {}
  for index, id in ipairs(ids) do
    local record = records[index]
    if not record then
      uncounted[#uncounted + 1] = id
    else
      local retries, losses, releases, run, first = read_counters(counters[index])
      losses, run = losses + 1, run + 1
      if losses >= tonumber(string.match(record, '^%d (%d+)')) then
        dead[#dead + 1], dead[#dead + 2] = text(now), id
        reasons[#reasons + 1] = id
        reasons[#reasons + 1] = write_reason(retries, losses, releases, run,
          '11 worker_lost' .. losses .. ' leases ended without a settlement')
        uncounted[#uncounted + 1] = id
      else
        changed[#changed + 1] = id
        changed[#changed + 1] = write_counters(retries, losses, releases, run, first)
        local place = sub(members[index], 1, 1) .. 'h' .. id
        if losses == 1 then
          heads[#heads + 1] = place
        else
          local backoff = math.min(2 ^ (losses - 2), LONGEST_BACKOFF)
          later[#later + 1], later[#later + 2] = text(now + backoff * SECOND), place
        end
      end
    end
  end
  many('HDEL', COUNTERS, uncounted)
  many('HSET', COUNTERS, changed)
  many('ZADD', part(queue, SCHEDULED), later)
  many('ZADD', part(queue, DEAD), dead)
  many('HSET', part(queue, REASONS), reasons)
  make_ready(queue, heads)
  return #members
end

-- Make up to `limit` due messages of the queue ready; return how many.
local function promote(queue, now, limit)
  local places = call('ZRANGEBYSCORE', part(queue, SCHEDULED), '-inf', text(now), 'LIMIT', 0, limit)
  if #places > 0 then
    many('ZREM', part(queue, SCHEDULED), places)
    make_ready(queue, places)
  end
  return #places
end
