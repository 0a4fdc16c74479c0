-- KEYS     messages, counters, queues, a block for each queue, the result key
--          of each message
-- ARGV     offset, n, n queue names, number of messages, 7 for each message
-- returns  how many were accepted; the others existed already
-- One step: all of these messages are there, or none.

return accept(BODY + 1, tonumber(ARGV[BODY]), EXTRA_KEYS, present())
