-- Part of the scripts that conclude or extend leases: `held`.
--
-- A lease is 3 arguments: kind, number of its queue, member of PROCESSING
-- (`<priority><id> <token>`). As the member holds the token, its presence is
-- the proof of the lease.

local LEASE = 3

-- Of `count` leases from ARGV[first] on: which hold (by position), and the
-- members of those by queue.
local function held(first, count)
  local members, positions = {}, {}
  for index = 1, count do
    local at = first + (index - 1) * LEASE
    local queue = tonumber(ARGV[at + 1])
    local list, where = entry(members, queue), entry(positions, queue)
    list[#list + 1], where[#where + 1] = ARGV[at + 2], index
  end
  local holds, present_members = {}, {}
  for queue, list in pairs(members) do
    local scores = ask('ZMSCORE', part(queue, PROCESSING), list)
    local found = entry(present_members, queue)
    for index = 1, #list do
      if scores[index] then
        holds[positions[queue][index]] = true
        found[#found + 1] = list[index]
      end
    end
  end
  return holds, present_members
end

local function positions_lost(holds, count)
  local lost = {}
  for index = 1, count do
    if not holds[index] then
      lost[#lost + 1] = index - 1
    end
  end
  return lost
end
