-- KEYS     workers, beats
-- ARGV     offset
-- returns  the last heartbeat of each live worker
-- One step.

local alive = call('ZRANGEBYSCORE', KEYS[1], '(' .. text(present()), '+inf')
if #alive == 0 then
  return {}
end
return ask('HMGET', KEYS[2], alive)
