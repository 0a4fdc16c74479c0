-- Part of the scripts that accept messages: `accept`.
--
-- A message is 7 arguments: id, number of its queue, priority, max_deliveries,
-- due, expires, envelope. Due and expires are '' (none), µs since the epoch, or
-- '+' and µs from now.

local ITEM = 7

local function instant(given, now)
  if sub(given, 1, 1) == '+' then
    return now + given
  end
  return tonumber(given)
end

-- Whether a result is there and not past its own time, which a moved clock can
-- put before the server's.
local function readable(key, now)
  local expires = string.match(call('GETRANGE', key, 0, 100), '^%d+ %S+ (%d+) ')
  return expires and tonumber(expires) > now
end

-- The ids that are taken, as message or as result.
local function taken(ids, first_key, now)
  local found = {}
  for index, record in ipairs(ask('HMGET', MESSAGES, ids)) do
    if record then
      found[ids[index]] = true
    end
  end
  for first = first_key, first_key + #ids - 1, WIDTH do
    local last = math.min(first + WIDTH - 1, first_key + #ids - 1)
    if call('EXISTS', unpack(KEYS, first, last)) > 0 then
      for key = first, last do
        if readable(KEYS[key], now) then
          found[ids[key - first_key + 1]] = true
        end
      end
    end
  end
  return found
end

-- Accept `count` messages from ARGV[first] on, whose result keys stand from
-- KEYS[first_key] on. Those whose id is taken are skipped.
local function accept(first, count, first_key, now)
  local ids = {}
  for index = 1, count do
    ids[index] = ARGV[first + (index - 1) * ITEM]
  end
  local found = taken(ids, first_key, now)
  local records, names, ready, later, urgent = {}, {}, {}, {}, {}
  for index = 1, count do
    local id, queue, priority, limit, due, expires, envelope =
      unpack(ARGV, first + (index - 1) * ITEM, first + index * ITEM - 1)
    if not found[id] then
      found[id] = true
      queue = tonumber(queue)
      local name = ARGV[3 + queue]
      names[queue] = name
      expires = expires == '' and '0' or text(instant(expires, now))
      records[#records + 1] = id
      records[#records + 1] = table.concat(
        { priority, limit, expires, name, text(now), envelope }, ' ')
      local at = due == '' and now or instant(due, now)
      local place = priority .. 't' .. id
      if at > now then
        local list = entry(later, queue)
        list[#list + 1], list[#list + 2] = text(at), place
      else
        local list = entry(ready, queue)
        list[#list + 1] = place
      end
      urgent[queue] = urgent[queue] or at < now + SECOND
    end
  end
  many('HSET', MESSAGES, records)
  for queue, name in pairs(names) do
    call('SADD', QUEUES, name)
    make_ready(queue, ready[queue] or {})
    many('ZADD', part(queue, SCHEDULED), later[queue] or {})
    if urgent[queue] then
      wake(queue)
    end
  end
end
