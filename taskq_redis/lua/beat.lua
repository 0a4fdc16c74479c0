-- KEYS     workers, beats
-- ARGV     offset, 0, incarnation, ttl µs, heartbeat
-- returns  nothing
-- One step. Begins with a removal, so that a server out of memory lets the rest
-- be done.

local incarnation, ttl = ARGV[3], tonumber(ARGV[4])
local now = present()
local ended = call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, 100)
ended[#ended + 1] = incarnation
many('ZREM', KEYS[1], ended)
many('HDEL', KEYS[2], ended)
if ttl > 0 then
  call('ZADD', KEYS[1], text(now + ttl), incarnation)
  call('HSET', KEYS[2], incarnation, ARGV[5])
end
return nil
