-- KEYS     messages, counters, queues, a block for each queue, then a result
--          key for each result and each successor, in the order of ARGV
-- ARGV     offset, n, n queue names, number of settlements, 3 for each lease,
--          then what each settlement carries, by its kind:
--            k  done, without more
--            a  done: result, number of successors, 7 for each successor
--            r  retry: result, delay µs, 0 or 1 and the new envelope
--            l  release: delay µs
--            d  dead: result, `<length of code> <code><detail>`
--          where a result is 0, or 1, run, state, ttl µs and payload
-- returns  the positions of those whose lease was lost, from 0 on
-- One step: of each settlement all effects are there, or none.

local count = tonumber(ARGV[BODY])
local now = present()
local holds, members = held(BODY + 1, count)

-- First a removal, so that a server out of memory lets the rest be done.
for queue, list in pairs(members) do
  many('ZREM', part(queue, PROCESSING), list)
end

local counted = {}
for index = 1, count do
  local at = BODY + 1 + (index - 1) * LEASE
  if holds[index] and ARGV[at] ~= 'k' and ARGV[at] ~= 'a' then
    counted[#counted + 1] = string.match(ARGV[at + 2], '^%d(%S+)')
  end
end
local counters = {}
if #counted > 0 then
  for index, packed in ipairs(ask('HMGET', COUNTERS, counted)) do
    counters[counted[index]] = packed
  end
end

local cursor, next_key = BODY + 1 + count * LEASE, EXTRA_KEYS

local function argument()
  cursor = cursor + 1
  return ARGV[cursor - 1]
end

local function result()
  if argument() == '0' then
    return nil
  end
  next_key = next_key + 1
  return { KEYS[next_key - 1], argument(), argument(), argument(), argument() }
end

-- What the settlements since the last flush want of the server.
local gone, uncounted, changed, rewritten, results
local ready, later, urgent, dead, reasons

local function begin()
  gone, uncounted, changed, rewritten, results = {}, {}, {}, {}, {}
  ready, later, urgent, dead, reasons = {}, {}, {}, {}, {}
end

local function flush()
  many('HDEL', MESSAGES, gone)
  many('HDEL', COUNTERS, uncounted)
  many('HSET', MESSAGES, rewritten)
  many('HSET', COUNTERS, changed)
  for queue, places in pairs(ready) do
    make_ready(queue, places)
  end
  for queue, places in pairs(later) do
    many('ZADD', part(queue, SCHEDULED), places)
  end
  for queue in pairs(urgent) do
    wake(queue)
  end
  for queue, deaths in pairs(dead) do
    many('ZADD', part(queue, DEAD), deaths)
    many('HSET', part(queue, REASONS), reasons[queue])
  end
  keep(results, now)
  begin()
end

local function place(queue, where, delay)
  delay = tonumber(delay)
  urgent[queue] = urgent[queue] or delay < SECOND or nil
  if delay > 0 then
    local list = entry(later, queue)
    list[#list + 1], list[#list + 2] = text(now + delay), where
  else
    local list = entry(ready, queue)
    list[#list + 1] = where
  end
end

local function add_result(holding, record)
  if holding and record then
    results[#results + 1] = record
  end
end

local conclude = {}

function conclude.k(holding, queue, priority, id)
  if holding then
    gone[#gone + 1], uncounted[#uncounted + 1] = id, id
  end
end

function conclude.a(holding, queue, priority, id)
  conclude.k(holding, queue, priority, id)
  add_result(holding, result())
  local successors = tonumber(argument())
  if holding and successors > 0 then
    flush()
    accept(cursor, successors, next_key, now)
  end
  cursor, next_key = cursor + successors * ITEM, next_key + successors
end

function conclude.r(holding, queue, priority, id)
  add_result(holding, result())
  local delay = argument()
  local envelope = argument() == '1' and argument()
  if holding then
    local retries, losses, releases, run, first = read_counters(counters[id])
    changed[#changed + 1] = id
    changed[#changed + 1] = write_counters(retries + 1, losses, releases, run + 1, first)
    -- An error here would cost the batch its leases: a record can be missing
    -- where somebody deleted it.
    local record = envelope and call('HGET', MESSAGES, id)
    if record then
      local head = string.match(record, '^%d %d+ %d+ %S+ %d+ ')
      rewritten[#rewritten + 1], rewritten[#rewritten + 2] = id, head .. envelope
    end
    place(queue, priority .. 't' .. id, delay)
  end
end

function conclude.l(holding, queue, priority, id)
  local delay = argument()
  if holding then
    local retries, losses, releases, run, first = read_counters(counters[id])
    first = first == '0' and text(now) or first
    changed[#changed + 1] = id
    changed[#changed + 1] = write_counters(retries, losses, releases + 1, run, first)
    place(queue, priority .. 'h' .. id, delay)
  end
end

function conclude.d(holding, queue, priority, id)
  add_result(holding, result())
  local why = argument()
  if holding then
    local retries, losses, releases, run = read_counters(counters[id])
    uncounted[#uncounted + 1] = id
    local deaths, list = entry(dead, queue), entry(reasons, queue)
    deaths[#deaths + 1], deaths[#deaths + 2] = text(now), id
    list[#list + 1], list[#list + 2] = id, write_reason(retries, losses, releases, run, why)
  end
end

begin()
for index = 1, count do
  local at = BODY + 1 + (index - 1) * LEASE
  local priority, id = string.match(ARGV[at + 2], '^(%d)(%S+)')
  conclude[ARGV[at]](holds[index], tonumber(ARGV[at + 1]), priority, id)
end
flush()
return positions_lost(holds, count)
