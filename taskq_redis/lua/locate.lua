-- KEYS     messages, counters, queues, the block of one queue
-- ARGV     offset, 1, queue name, ids
-- returns  for each id: scheduled, ready, processing, dead; nil if the queue
--          has no such message
-- One step. READY is what is nowhere else: a list cannot be asked for a member
-- without being read to its end. PROCESSING is read to its end only for ids
-- that are in neither of the other sets.

local ids, states, looking, priorities = {}, {}, {}, {}
for index = BODY, #ARGV do
  ids[#ids + 1] = ARGV[index]
end
for index, record in ipairs(ask('HMGET', MESSAGES, ids)) do
  local priority, queue = string.match(record or '', '^(%d) %d+ %d+ (%S+) ')
  if queue == ARGV[3] then
    looking[#looking + 1], priorities[#priorities + 1] = ids[index], priority
  end
end

local function only(list, keep_if)
  local kept = {}
  for index = 1, #list do
    if keep_if(index) then
      kept[#kept + 1] = list[index]
    end
  end
  return kept
end

if #looking > 0 then
  local dead = ask('ZMSCORE', part(0, DEAD), looking)
  local places = {}
  for index, id in ipairs(looking) do
    places[#places + 1] = priorities[index] .. 'h' .. id
    places[#places + 1] = priorities[index] .. 't' .. id
  end
  local due = ask('ZMSCORE', part(0, SCHEDULED), places)
  looking = only(looking, function(index)
    local scheduled = due[index * 2 - 1] or due[index * 2]
    states[looking[index]] = dead[index] and 'dead' or scheduled and 'scheduled' or 'ready'
    return states[looking[index]] == 'ready'
  end)
end

if #looking > 0 then
  local pattern = #looking == 1 and '?' .. looking[1] .. ' *' or '*'
  local cursor = '0'
  repeat
    local page = call('ZSCAN', part(0, PROCESSING), cursor, 'MATCH', pattern, 'COUNT', 1000)
    cursor = page[1]
    for index = 1, #page[2], 2 do
      local id = string.match(page[2][index], '^%d(%S+)')
      if states[id] then
        states[id] = 'processing'
      end
    end
  until cursor == '0'
end

local answer = {}
for index, id in ipairs(ids) do
  answer[index] = states[id] or false
end
return answer
