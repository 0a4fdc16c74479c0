-- KEYS     messages
-- ARGV     offset, 0, ids
-- returns  the queue of each message; nil for one that does not exist
-- One step.

local ids = {}
for index = BODY, #ARGV do
  ids[#ids + 1] = ARGV[index]
end
local names = {}
for index, record in ipairs(ask('HMGET', MESSAGES, ids)) do
  names[index] = record and string.match(record, '^%d %d+ %d+ (%S+) ')
end
return names
