-- KEYS     messages, counters, queues, the block of one queue, the result key
--          of each id
-- ARGV     offset, 1, queue name, requeue or drop, ids, each once
-- returns  how many of them were dead letters
-- One step.

local ids, found, result_keys = {}, {}, {}
for index = BODY + 1, #ARGV do
  ids[#ids + 1] = ARGV[index]
end
for index, score in ipairs(ask('ZMSCORE', part(0, DEAD), ids)) do
  if score then
    found[#found + 1] = ids[index]
    result_keys[#result_keys + 1] = KEYS[EXTRA_KEYS + index - 1]
  end
end
if #found == 0 then
  return 0
end

local reasons = ask('HMGET', part(0, REASONS), found)
many('ZREM', part(0, DEAD), found)
many('HDEL', part(0, REASONS), found)
if ARGV[BODY] == 'drop' then
  many('HDEL', MESSAGES, found)
  return #found
end

local places, counters = {}, {}
for index, record in ipairs(ask('HMGET', MESSAGES, found)) do
  if record then
    local run = string.match(reasons[index] or '', '^%d+ %d+ %d+ (%d+) ') or 0
    places[#places + 1] = sub(record, 1, 1) .. 't' .. found[index]
    counters[#counters + 1] = found[index]
    counters[#counters + 1] = write_counters(0, 0, 0, run + 1, '0')
  end
end
many('HSET', COUNTERS, counters)
call('DEL', unpack(result_keys))
make_ready(0, places)
wake(0)
return #found
