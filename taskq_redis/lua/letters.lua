-- KEYS     messages, counters, queues, the block of one queue
-- ARGV     offset, 1, queue name, limit, died µs and id of the letter to start
--          behind ('' and '' for the start)
-- returns  {ids, died µs, records, reasons}, oldest first, then by id
-- One step.

local limit, died, after = tonumber(ARGV[BODY]), tonumber(ARGV[BODY + 1]), ARGV[BODY + 2]
local start = died and call('ZCOUNT', part(0, DEAD), '-inf', '(' .. text(died)) or 0
local ids, deaths = {}, {}
while #ids < limit do
  local page = call('ZRANGE', part(0, DEAD), start, start + limit - 1, 'WITHSCORES')
  for index = 1, #page, 2 do
    local behind = not died or tonumber(page[index + 1]) > died or page[index] > after
    if behind and #ids < limit then
      ids[#ids + 1], deaths[#deaths + 1] = page[index], page[index + 1]
    end
  end
  if #page < limit * 2 then
    break
  end
  start = start + limit
end
if #ids == 0 then
  return { {}, {}, {}, {} }
end
return { ids, deaths, ask('HMGET', MESSAGES, ids), ask('HMGET', part(0, REASONS), ids) }
