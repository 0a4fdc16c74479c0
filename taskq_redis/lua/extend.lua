-- KEYS     messages, counters, queues, a block for each queue
-- ARGV     offset, n, n queue names, number of leases, lease µs, 3 for each lease
-- returns  the positions of those that were lost, from 0 on
-- One step. Leases are removed and added again, as a server out of memory
-- refuses to start with an addition.

local count, lease = tonumber(ARGV[BODY]), tonumber(ARGV[BODY + 1])
local lease_end = text(present() + lease)
local holds, members = held(BODY + 2, count)
for queue, list in pairs(members) do
  local leases = {}
  for index = 1, #list do
    leases[index * 2 - 1], leases[index * 2] = lease_end, list[index]
  end
  many('ZREM', part(queue, PROCESSING), list)
  many('ZADD', part(queue, PROCESSING), leases)
end
return positions_lost(holds, count)
