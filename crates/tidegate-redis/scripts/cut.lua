-- Cuts entries from the head of the log of revocations, if it still is the one that is meant.
--
-- KEYS  1: the log, as append.lua has it
-- ARGV  1: the log's id (decimal)
--       2: the number of the first entry that stays; the last entry always does
-- reply how many entries were cut; -1 if there is another log, or none

local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not last then return -1 end
local number, log = last[1]:match('^(%d+)-(%d+)$')
if log ~= ARGV[1] then return -1 end
local first = math.min(tonumber(ARGV[2]), tonumber(number))
return redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', first))
