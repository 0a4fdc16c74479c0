-- Part of the scripts that store results: `keep`.
--
-- A result is stored as `<run> <state> <expires µs> <ttl µs> <payload>` under a key with
-- the server's own time to live. A final one is announced on the channel named
-- as its key, if anybody listens there.

-- The runs of the readable results under these keys.
local function runs_of(keys, now)
  local runs = {}
  for first = 1, #keys, WIDTH do
    local last = math.min(first + WIDTH - 1, #keys)
    for index, value in ipairs(call('MGET', unpack(keys, first, last))) do
      if value then
        local run, expires = string.match(value, '^(%d+) %S+ (%d+) ')
        if run and tonumber(expires) > now then
          runs[keys[first + index - 1]] = tonumber(run)
        end
      end
    end
  end
  return runs
end

-- A hint only, as who waits looks by himself too: a user who may not publish
-- must not fail here, where all is done already.
local function announce(channels)
  for first = 1, #channels, WIDTH do
    local last = math.min(first + WIDTH - 1, #channels)
    local counts = redis.pcall('PUBSUB', 'NUMSUB', unpack(channels, first, last))
    for index = 1, #counts, 2 do
      if counts[index + 1] > 0 then
        redis.pcall('PUBLISH', counts[index], '')
      end
    end
  end
end

-- Store records {key, run, state, ttl µs, payload}, in order. A higher run stays.
local function keep(records, now)
  if #records == 0 then
    return
  end
  local keys, final = {}, {}
  for index, record in ipairs(records) do
    keys[index] = record[1]
  end
  local runs = runs_of(keys, now)
  for _, record in ipairs(records) do
    local key, run, state, ttl, payload = unpack(record)
    run, ttl = tonumber(run), tonumber(ttl)
    if run >= (runs[key] or 0) then
      if ttl > 0 then
        runs[key] = run
        local value = table.concat({ text(run), state, text(now + ttl), text(ttl), payload }, ' ')
        call('SET', key, value, 'PX', text(math.ceil(ttl / 1000)))
        if state ~= 'RETRY' then
          final[#final + 1] = key
        end
      else
        runs[key] = nil
        call('DEL', key)
      end
    end
  end
  announce(final)
end
