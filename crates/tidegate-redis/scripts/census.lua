-- Tells of one host's demand, and how much there is in the fleet.
--
-- KEYS  1: the roll of hosts, tidegate:{census}
--       2 ..: what demand is counted by, a limit or a proxy, tidegate:{census}:<which>
-- ARGV  1: packed '<c8ddd': the host's id, half-life (us), since (us; when the host told last,
--       below 0 if never: for a second call and on), weight (proxies it speaks for; below 0:
--       this is not the host's first call in this census, and the roll stays as it is)
--       2 ..: one per key but the first, packed '<dd': units now, units told the last time
-- reply packed doubles: since (us), age of the roll (us), hosts, proxies, and for each key but
--       the first the units of all hosts. Without these if there is no more room on the roll.
--
-- A host's part of a sum is replaced by what it tells now: what it told the last time, faded
-- since, is taken away first. When that was is the roll's word, so a fail-over that forgot the
-- last census, or a reply that was lost, puts nothing off for long; and what a new or an empty
-- server never heard of is not taken from it.
--
-- State, strings that expire when nobody has told for EXPIRES_MS:
--       the roll: '<Bddd' 1, since when there is one (us), when the dead were last looked for
--       (us), weight of all; then one '<c8dd' per host: id, when it told last (us), weight
--       a sum: '<dd' units, as of (us)

local HEAD, ENTRY = 25, 24
local HOSTS_MAX = 1024
local DEAD_US = 60000000
local SWEEP_US = 1000000
local EXPIRES_MS = '120000'
local max = math.max

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local id, half_life, since, weight = struct.unpack('<c8ddd', ARGV[1])
local kept = redis.call('MGET', unpack(KEYS))

local function faded(units, at)
  return units * 2 ^ (-max(0, now - at) / half_life)
end

local roll, born, swept, total = kept[1], now, now, 0
if roll and roll:byte() == 1 and #roll >= HEAD and (#roll - HEAD) % ENTRY == 0 then
  local _
  _, born, swept, total = struct.unpack('<Bddd', roll)
else
  roll = string.rep(' ', HEAD)
end

-- All but the dead, and their weight. A walk over all: once in SWEEP_US, whoever comes then.
local function sweep()
  local living = {}
  total, swept = 0, now
  for at = HEAD + 1, #roll, ENTRY do
    local _, seen, counts = struct.unpack('<c8dd', roll, at)
    if now - seen < DEAD_US then
      living[#living + 1] = roll:sub(at, at + ENTRY - 1)
      total = total + counts
    end
  end
  roll = roll:sub(1, HEAD) .. table.concat(living)
end

-- Where the host is on the roll. Its id may be found across two entries as well.
local function found()
  local at = HEAD
  repeat
    at = roll:find(id, at + 1, true)
  until not at or (at - HEAD - 1) % ENTRY == 0
  return at
end

local is_full = false
if weight >= 0 then
  if math.abs(now - swept) >= SWEEP_US then sweep() end
  local at = found()
  since = -1
  if at then
    local _, seen, counts = struct.unpack('<c8dd', roll, at)
    since, total = seen, total - counts
  end
  is_full = not at and (#roll - HEAD) / ENTRY >= HOSTS_MAX
  if not is_full then
    at, total = at or #roll + 1, total + weight
    -- At once: each part of it would be a string of its own.
    roll = struct.pack('<Bddd', 1, born, swept, total) .. roll:sub(HEAD + 1, at - 1) ..
      struct.pack('<c8dd', id, now, weight) .. roll:sub(at + ENTRY)
    redis.call('SET', KEYS[1], roll, 'PX', EXPIRES_MS)
  end
end

local hosts = (#roll - HEAD) / ENTRY
local reply = { struct.pack('<dddd', since, max(0, now - born), hosts, max(0, total)) }
if is_full then return reply[1] end
for i = 2, #KEYS do
  local units, told = struct.unpack('<dd', ARGV[i])
  local state, others = kept[i], 0
  if state and #state == 16 then others = faded(struct.unpack('<dd', state)) end
  if since >= 0 then others = max(0, others - faded(told, since)) end
  redis.call('SET', KEYS[i], struct.pack('<dd', units + others, now), 'PX', EXPIRES_MS)
  reply[i] = struct.pack('<d', units + others)
end
return table.concat(reply)
