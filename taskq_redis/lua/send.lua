-- KEYS     messages, counters, queues, a block for each queue, the result key
--          of each message
-- ARGV     offset, n, n queue names, number of messages, 7 for each message
-- returns  nothing; those that existed already were skipped
-- One step: all of these messages are there, or none.

accept(BODY + 1, tonumber(ARGV[BODY]), EXTRA_KEYS, present())
return nil
