-- Prelude of every script; `taskq_redis.scripts` puts it in front of them.
--
-- KEYS   of scripts that touch messages: messages, counters, queues, then one
--        block of 15 for each queue (see `part`), then what the script adds
-- ARGV   offset of the clock in µs, number n of queues, their n names, then
--        what the script adds, from ARGV[BODY] on
--
-- Instants are whole µs. A double holds them exactly, but `..` would round
-- them, so they become text by `text` only.

local MESSAGES, COUNTERS, QUEUES = KEYS[1], KEYS[2], KEYS[3]
local FIXED, BLOCK = 3, 15
local PROCESSING, SCHEDULED, DEAD, REASONS, WAKE, READY = 1, 2, 3, 4, 5, 6

local SECOND = 1000000
local WAKE_LIFE = 60000

-- Lua's stack holds about 8000 values. Even, so that pairs stay together.
local WIDTH = 4000

local queue_count = tonumber(ARGV[2]) or 0
local BODY = queue_count + 3
local EXTRA_KEYS = FIXED + queue_count * BLOCK + 1

local call, sub = redis.call, string.sub

local function text(number)
  return string.format('%.0f', number)
end

local function present()
  local time = call('TIME')
  return time[1] * SECOND + time[2] + ARGV[1]
end

-- The key of a part of a queue; queues count from 0, ready levels are READY + priority.
local function part(queue, which)
  return KEYS[FIXED + queue * BLOCK + which]
end

-- One variadic command, or a few if there are very many arguments.
local function many(command, key, arguments)
  for first = 1, #arguments, WIDTH do
    call(command, key, unpack(arguments, first, math.min(first + WIDTH - 1, #arguments)))
  end
end

-- The same for commands that answer each argument; returns all answers.
local function ask(command, key, arguments)
  if #arguments <= WIDTH then
    return call(command, key, unpack(arguments))
  end
  local answers = {}
  for first = 1, #arguments, WIDTH do
    local slice = call(command, key, unpack(arguments, first, math.min(first + WIDTH - 1, #arguments)))
    for index = 1, #slice do
      answers[#answers + 1] = slice[index]
    end
  end
  return answers
end

-- A list or table by key, made at its first use.
local function entry(tables, key)
  local found = tables[key]
  if not found then
    found = {}
    tables[key] = found
  end
  return found
end

-- Let one waiting claim of the queue run. A token that nobody waits for is
-- stale soon and ends by itself.
local function wake(queue)
  local key = part(queue, WAKE)
  if call('EXISTS', key) == 0 then
    call('RPUSH', key, '1')
    call('PEXPIRE', key, WAKE_LIFE)
  end
end

-- Make messages ready. A place is `<priority><h|t><id>`: head or tail of its level.
local function make_ready(queue, places)
  local groups = {}
  for index = 1, #places do
    local place = places[index]
    local group = entry(groups, sub(place, 1, 2))
    group[#group + 1] = sub(place, 3)
  end
  for where, ids in pairs(groups) do
    local command = sub(where, 2) == 'h' and 'LPUSH' or 'RPUSH'
    many(command, part(queue, READY + sub(where, 1, 1)), ids)
  end
end

-- retries, losses, releases, run, instant of the first release (text, '0' if none)
local function read_counters(packed)
  if not packed then
    return 0, 0, 0, 0, '0'
  end
  local retries, losses, releases, run, first =
    string.match(packed, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  return tonumber(retries), tonumber(losses), tonumber(releases), tonumber(run), first
end

local function write_counters(retries, losses, releases, run, first)
  return string.format('%d %d %d %d %s', retries, losses, releases, run, first)
end

-- What is kept with a dead letter; `why` is `<length of code> <code><detail>`.
local function write_reason(retries, losses, releases, run, why)
  return string.format('%d %d %d %d ', retries, losses, releases, run) .. why
end
