-- KEYS     the result key of each record
-- ARGV     offset, 0, then for each record run, state, ttl µs, payload
-- returns  nothing
-- One step.

local records = {}
for index = 1, #KEYS do
  local at = BODY + (index - 1) * 4
  records[index] = { KEYS[index], unpack(ARGV, at, at + 3) }
end
keep(records, present())
return nil
