-- KEYS     result keys
-- ARGV     offset
-- returns  {now, values}
-- One step.

local values = {}
for first = 1, #KEYS, WIDTH do
  for _, value in ipairs(call('MGET', unpack(KEYS, first, math.min(first + WIDTH - 1, #KEYS)))) do
    values[#values + 1] = value
  end
end
return { present(), values }
