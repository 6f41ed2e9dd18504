-- Appends entries to the log of revocations, if what the caller knows of it is still in it.
-- Its twin, for the chain, is Position::then in tidegate-core's revoke/log.rs.
--
-- KEYS  1: the log, a stream; its entry n has the id <n>-<id of the log>, and the fields c, its
--          chain (16 hex digits), and r, its records
-- ARGV  1 2 3: what the caller knows: the log's id (decimal; 0 is none), an entry's number, its
--          chain
--       4 5: if there is no log, the id of one to begin and its first link; 0 is begin none
--       6: the id of a damaged log that is to be begun anew; 0 is none
--       7 ..: entries, each a row of records
-- reply the number of the first entry appended, and the chain of each; or, with nothing
--       written, 0 and 'none' (there is no log), 'lost' (it lacks what the caller knows) or
--       'damaged' (it lacks entries at its end: none can be appended)

local key, known_log, known, known_chain = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local function entry_at(from, to)
  return redis.call(from == '+' and 'XREVRANGE' or 'XRANGE', key, from, to, 'COUNT', 1)[1]
end

local function chain_of(entry)
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'c' then return fields[i + 1] end
  end
end

local last, number, log, chain = entry_at('+', '-'), 0, nil, nil
if last then
  number, log = last[1]:match('^(%d+)-(%d+)$')
  number, chain = tonumber(number), chain_of(last)
  if log == ARGV[6] then last = nil end
end

if last then
  if log ~= known_log then return { 0, 'lost' } end
  if tonumber(known) > 0 then
    local id = known .. '-' .. known_log
    local entry = entry_at(id, id)
    if not entry or chain_of(entry) ~= known_chain then return { 0, 'lost' } end
  end
else
  if ARGV[4] == '0' then return { 0, 'none' } end
  -- A stream without entries remembers ids, and would refuse those of a new log.
  redis.call('UNLINK', key)
  number, log, chain = 0, ARGV[4], ARGV[5]
end

local reply = { number + 1 }
for i = 7, #ARGV do
  number = number + 1
  chain = redis.sha1hex(chain .. ARGV[i]):sub(1, 16)
  local id = string.format('%.0f', number) .. '-' .. log
  local added = redis.pcall('XADD', key, id, 'c', chain, 'r', ARGV[i])
  if type(added) == 'table' and added.err then
    if added.err:find('equal or smaller', 1, true) then return { 0, 'damaged' } end
    return added
  end
  reply[#reply + 1] = chain
end
return reply
