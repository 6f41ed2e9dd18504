-- Settles what a holder tells of one budget, and grants it a lease. The Rust twin of every
-- line here is Record::answer in tidegate-core's lease/record.rs, with ledger.rs,
-- outstanding.rs, demand.rs and terms.rs beside it: same names, same order (which is part of
-- the proof), and to the bit the same sums, because every quantity is a whole number below
-- 2^53. Change both or neither; tests/lease.rs holds them together.
--
-- KEYS  1: tidegate:lease:<limit>:{<key>}
-- ARGV  1: now, in microseconds of any clock; 0 is this server's TIME
--       2: packed '<BBBBI4 x 20 ddddddc8': algorithm (1 token bucket, 2 sliding window), tick
--          (1 us, 2 ms, 3 s), whether it may settle, which of 32 places the holder is counted
--          at; count, burst, reserve, era, version, three times (epoch, spent, returned),
--          known, owed, units, soon, least, tried; then period (ms), cell, drain (units of
--          backlog), refill (ns), rate of the holder (thousandths a second), age of the history
--          that this server goes on with (us; -1 if no keys were lost before it); its stamp
-- reply '<I4I4I4I4I4I4dBd': units, soon, era, epoch, version, remaining, rate of all holders
--       (thousandths a second), and the wait: what it is counted in (0 ns, 1 us, 2 ms, 3 s),
--       how many
--
-- State: the bytes of tidegate-core's lease/packed.rs, of a bucket the first 96, of a window
-- 120. Anything else is a key never seen. It expires when nobody remembers it any more. It is
-- not kept under the name that take.lua uses: a limit that some ask for exactly and some by
-- leases, as while a configuration is rolled out, would be counted afresh at each change of
-- hands; so it is counted twice, once.
--
-- 64-bit numbers ('I8') want a server built for 64 bits. A function costs some 70 ns to make
-- and is made anew in every run: so there are few, and what is rare is within what is rare.

local EPOCH, EPOCHS, SOON_EPOCH = 250000, 5, 62500
local LAPSE = EPOCH * (EPOCHS - 1)
local OUT = EPOCHS + 2 -- five epochs of leases and two short ones
local KEPT = 11 -- the ten parts of a window and the one that has just begun
local DEMAND_HALF_LIFE, HOLDERS_SPAN = 320000, 500000
local DEMAND_MAX_MILLI, RATE_MAX_MILLI = 4e12, 9e12
local DOUBT_US = 10000000
local WHOLE_PPM = 1000000
local U32 = 4294967295
local TTL_MAX_MS = 18446744073709
local HEAD = '<BBBBI4I4I4I4I8I4I4I4I4I4I4I4c8I8'
local COUNTS = 'I4I4I4I4I4I4I4I4I4I4I4'
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME') -- once: before Redis 7.2 it moves within a script
  now = time[1] * 1000000 + time[2]
end
local algorithm, tick_code, may_settle, place, count, burst, reserve, want_era, want_version,
  epoch_1, spent_1, returned_1, epoch_2, spent_2, returned_2, epoch_3, spent_3, returned_3,
  known, owed, want_units, want_soon, want_least, tried,
  period_ms, cell, drain, refill_ns, want_rate, age, stamp =
  struct.unpack('<BBBBI4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4ddddddc8', ARGV[2])
local is_bucket = algorithm == 1
local tick = 1000 ^ (tick_code - 1)
local out_max = ceil(burst / 2)

-- The record, as read or as of a key never seen.
local kind, era, began_empty, version, newest_holders, other_holders = 0, 0, 0, 0, 0, 0
local demand, last, record_stamp = 0, now, stamp
local out = { 0, 0, 0, 0, 0, 0, 0 } -- newest first, leases and then short ones
local backlog, width = 0, max(1, floor(period_ms * 100))
local counts -- newest first
local old_tick, old_cell, old_drain, old_period_ms

local state = redis.call('MGET', KEYS[1])[1]
if state then
  local code = state:byte()
  if code == 1 and #state == 96 or code == 2 and #state == 120 then
    local old_code, high, at
    kind, old_code, began_empty, high, era, version, newest_holders, other_holders, demand,
      out[1], out[2], out[3], out[4], out[5], out[6], out[7], record_stamp, last, at =
      struct.unpack(HEAD, state)
    if kind == 1 then
      old_tick = 1000 ^ (old_code - 1)
      backlog, old_cell, old_drain = struct.unpack('<I8I8I8', state, at)
    else
      counts = { struct.unpack('<' .. COUNTS .. 'I4', state, at) }
      old_period_ms = high * 4294967296 + counts[KEPT + 1]
    end
  end
end
local leased, total -- units outstanding as leases, and all
local function count_out()
  leased = out[1] + out[2] + out[3] + out[4] + out[5]
  total = min(U32, leased + out[6] + out[7])
end
count_out()

local function shift(from, first, kept, places)
  if places <= 0 then return end
  for at = first + kept - 1, first, -1 do
    from[at] = at - first >= places and from[at - places] or 0
  end
end

-- Taken and outstanding no more, in whole units, of an account counted as it was.
local function used()
  if kind == 1 then return max(0, min(U32, ceil(backlog / max(1, old_cell))) - total) end
  local sum = 0
  for age = 1, KEPT do sum = sum + counts[age] end
  return min(U32, sum)
end

local function cap()
  if is_bucket then backlog = min(backlog, burst * cell * 2) end
end

local function charge(units)
  if is_bucket then
    backlog = backlog + units * cell
    cap()
  else
    counts[1] = min(U32, counts[1] + units)
  end
end

-- Lets time pass, under what was outstanding at `last`, as the record counts.
local function advance()
  local lapse_at = {}
  for i = 1, EPOCHS do lapse_at[i] = (floor(last / EPOCH) + EPOCHS + 1 - i) * EPOCH end
  for i = EPOCHS + 1, OUT do
    lapse_at[i] = (floor(last / SOON_EPOCH) + OUT + 1 - i) * SOON_EPOCH
  end
  if kind == 1 then
    local reached = floor(now / old_tick)
    local left = max(0, backlog - (reached - floor(last / old_tick)) * old_drain)
    if total > 0 then
      for i = 1, OUT do
        if out[i] > 0 then
          local held, at = 0, lapse_at[i]
          for j = 1, OUT do
            if lapse_at[j] >= at then held = held + out[j] end
          end
          local ticks = max(0, reached - ceil(min(at, now) / old_tick))
          left = max(left, min(held * old_cell, backlog) - ticks * old_drain)
        end
      end
    end
    backlog = left
  else
    local old_width = max(1, old_period_ms * 100)
    local newest = floor(now / old_width)
    shift(counts, 1, KEPT, newest - floor(last / old_width))
    if total > 0 then
      for i = 1, OUT do
        local age = newest - floor(lapse_at[i] / old_width) + 1
        if out[i] > 0 and lapse_at[i] <= now and age >= 1 and age <= KEPT then
          counts[age] = min(U32, counts[age] + out[i])
        end
      end
    end
  end

  shift(out, 1, EPOCHS, floor(now / EPOCH) - floor(last / EPOCH))
  shift(out, EPOCHS + 1, 2, floor(now / SOON_EPOCH) - floor(last / SOON_EPOCH))
  count_out()

  local halves = floor((now - last) / DEMAND_HALF_LIFE)
  if halves >= 63 then
    demand = 0
  elseif demand > 0 then
    local sum = floor(demand / 2 ^ halves)
    local rest = floor((now - last) % DEMAND_HALF_LIFE * 65536 / DEMAND_HALF_LIFE)
    local part = 65536 - floor(rest * (45426 - floor(12658 * rest / 65536)) / 65536)
    demand = floor(sum / 65536) * part + floor(sum % 65536 * part / 65536)
  end
  local spans = floor(now / HOLDERS_SPAN) - floor(last / HOLDERS_SPAN)
  if spans == 1 then
    newest_holders, other_holders = 0, newest_holders
  elseif spans > 1 then
    newest_holders, other_holders = 0, 0
  end
  last = now
end

-- Numbers that are near to each other come out far apart: SplitMix64's last step, of
-- which the lower half is wanted; by halves, as doubles hold no 64 bits.
local function begin_era(at)
  local rshift, bor, bxor, lshift = bit.rshift, bit.bor, bit.bxor, bit.lshift
  local function shifted(high, low, by)
    high, low = bxor(high, rshift(high, by)), bxor(low, bor(rshift(low, by), lshift(high, 32 - by)))
    return high % 4294967296, low % 4294967296
  end
  local function low_of_product(a, b)
    return (a * floor(b / 65536) % 65536 * 65536 + a * (b % 65536)) % 4294967296
  end
  local function times(high, low, by_high, by_low)
    local upper = low * floor(by_low / 65536)
    local sum = low * (by_low % 65536) + upper % 65536 * 65536
    local carried = floor(sum / 4294967296) + floor(upper / 65536)
    high = low_of_product(high, by_low) + low_of_product(low, by_high) + carried
    return high % 4294967296, sum % 4294967296
  end
  -- The stamp's halves change places.
  local stamp_low, stamp_high = struct.unpack('<I4I4', stamp)
  local high = bxor(floor(at / 4294967296), stamp_low) % 4294967296
  local low = bxor(at % 4294967296, stamp_high) % 4294967296
  low = low + 0x7f4a7c15
  high = (high + 0x9e3779b9 + floor(low / 4294967296)) % 4294967296
  low = low % 4294967296
  high, low = shifted(high, low, 30)
  high, low = times(high, low, 0xbf58476d, 0x1ce4e5b9)
  high, low = shifted(high, low, 27)
  high, low = times(high, low, 0x94d049bb, 0x133111eb)
  high, low = shifted(high, low, 31)

  era, began_empty, version, last = max(1, low), 0, 0, at
  newest_holders, other_holders, demand, record_stamp = 0, 0, 0, stamp
  out = { 0, 0, 0, 0, 0, 0, 0 }
  count_out()
end

-- Takes all to be outstanding that could have been granted.
local function forget()
  began_empty = 1
  out = { out_max, 0, 0, 0, 0, burst - out_max, 0 }
  count_out()
  if is_bucket then
    backlog = max(backlog, burst * cell)
  else
    counts = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  end
end

-- Brings it up to now, whatever happened to the store meanwhile.
if kind == 0 then
  begin_era(now)
  if not is_bucket then counts = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 } end
  if age >= 0 and age * 1000 < refill_ns and age < DOUBT_US then forget() end
else
  if record_stamp == stamp and now > last then advance() end
  local is_same
  if is_bucket then
    is_same = kind == 1 and old_tick == tick and old_cell == cell and old_drain == drain
  else
    is_same = kind == 2 and old_period_ms == period_ms
  end
  if not is_same then -- the same use, of a window all as if it were used now
    local units = used()
    if is_bucket then
      backlog = (units + total) * cell
      cap()
    else
      counts = { units, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
    end
  end
  local is_behind = want_era == era and want_version > version
  if record_stamp ~= stamp or is_behind then
    local later = max(version, want_version)
    begin_era(is_behind and max(now, last) or now)
    version = later
    forget()
  end
end

local function settle(epoch, spent, returned)
  local age = (floor(last / EPOCH) - epoch) % 4294967296 + 1
  if age > EPOCHS then return end
  local units = min(spent + returned, out[age])
  returned = max(0, units - spent)
  out[age] = out[age] - units
  count_out()
  if is_bucket then
    backlog = max(backlog - returned * cell, min(total * cell, backlog))
  else
    counts[1] = min(U32, counts[1] + units - returned)
  end
end
if may_settle == 1 and want_era == era then
  if spent_1 + returned_1 > 0 then settle(epoch_1, spent_1, returned_1) end
  if spent_2 + returned_2 > 0 then settle(epoch_2, spent_2, returned_2) end
  if spent_3 + returned_3 > 0 then settle(epoch_3, spent_3, returned_3) end
end
charge(owed)
if want_era ~= 0 and want_era ~= era and began_empty == 0 then charge(known) end
newest_holders = bit.bor(newest_holders, bit.lshift(1, place)) % 4294967296
demand = min(demand + tried * 1000, DEMAND_MAX_MILLI)
version = min(version + 1, U32)

-- About how many holders asked lately: what fills so many places of 32, most likely.
local LIKELY = '\1\1\2\3\4\5\7\8\9\11\12\13\15\17\18\20\22\24\26\29\31\34\37\41'
  .. '\44\49\54\59\67\76\89\111\160'
local band, rshift = bit.band, bit.rshift
local places = bit.bor(newest_holders, other_holders)
places = places - band(rshift(places, 1), 0x55555555)
places = band(places, 0x33333333) + band(rshift(places, 2), 0x33333333)
places = band(places + rshift(places, 4), 0x0f0f0f0f)
places = rshift(places * 0x01010101 % 4294967296, 24)
local holders = LIKELY:byte(places + 1)

-- The twin of Terms::pause, and of units_in for it. Nanoseconds of a period are no double's:
-- it is multiplied and divided in microseconds first, and the rest then.
local times_us = holders * period_ms * 1000
local pause = floor(times_us / count) * 1000 + ceil(times_us % count * 1000 / count)
local pause_most = min(2e9, max(floor(refill_ns / 2), 5e7))
pause = min(max(pause, min(5e7, floor(refill_ns / 4), pause_most)), pause_most)
local in_pause = pause * floor(count / 1000000) + floor(pause * (count % 1000000) / 1000000)
local scarce_below = min(floor(in_pause / period_ms) * 2, floor(burst / 2))

-- How much of all that is wanted is wanted by this holder: in two steps, below 2^53 both.
local rate_here = min(want_rate, RATE_MAX_MILLI)
local rate = max(floor(demand * 693 / 320), rate_here)
local thousandths = floor(rate_here * 1000 / max(1, rate))
local rest = rate_here * 1000 - thousandths * rate
local share_ppm = thousandths * 1000 + floor(rest * 1000 / max(1, rate))

local level
if is_bucket then
  level = floor(max(0, (burst - reserve) * cell - backlog) / cell)
else
  level = burst - reserve - total
  for age = 1, KEPT do level = level - counts[age] end
  level = max(0, level)
end
local soon_wanted, least = min(want_soon, want_units), max(1, want_least)
-- Half of this holder's part, so that one round of all holders leaves something; all of it
-- where they come at the pace at which it refills.
local part, waiting = floor(level * max(share_ppm, floor(WHOLE_PPM / holders)) / WHOLE_PPM), 0
if level >= scarce_below then
  part, waiting = floor(part / 2), min(soon_wanted, floor(level / 4))
end
local units = min(want_units, max(part, waiting, least), level)
local soon = min(soon_wanted, units)
local lease = min(units - soon, max(0, out_max - leased))
if want_units == 0 or soon + lease < least then soon, lease = 0, 0 end
units = soon + lease

if is_bucket then backlog = backlog + units * cell end
out[1], out[EPOCHS + 1] = out[1] + lease, out[EPOCHS + 1] + soon
count_out()
local left = level - units

-- Until `least` can be granted, if nobody else comes: the twin of Ledger::wait.
local function wait_for()
  local goal = burst - reserve
  if is_bucket then
    return ceil(max(0, backlog - max(0, goal - least) * cell) / drain), tick_code
  end
  local above = total + least
  for age = 1, KEPT do above = above + counts[age] end
  above = max(0, min(U32, above) - goal)
  local newest = floor(last / width)
  for age = KEPT, 1, -1 do
    above = max(0, above - counts[age])
    if above == 0 then return max(0, (newest + KEPT + 1 - age) * width - last), 1 end
  end
  return 0, 1
end

local wait, unit = 0, 0
if units == 0 and (want_units > 0 or left == 0) then
  wait, unit = wait_for()
  -- What others hold may come back before that.
  local wait_ns = wait * 1000 ^ unit
  if leased > 0 and wait_ns > LAPSE * 1000 then wait, unit, wait_ns = LAPSE, 1, LAPSE * 1000 end
  if wait_ns < pause then wait, unit = pause, 0 end
elseif units < want_units and left < scarce_below then
  wait = pause
end

-- The twin of Record::keep_for.
local keep_ms = (refill_ns + floor(refill_ns / 8)) / 1000000 + LAPSE / 500
local high = 0
if is_bucket then
  keep_ms = max(keep_ms, ceil(backlog / drain) * tick / 1000 + LAPSE / 500)
else
  high = floor(period_ms / 4294967296)
end
keep_ms = min(ceil(keep_ms * (1 + 1 / 512)) + 2000, TTL_MAX_MS)
state = struct.pack(HEAD, algorithm, is_bucket and tick_code or 0, began_empty, high, era, version,
  newest_holders, other_holders, demand,
  out[1], out[2], out[3], out[4], out[5], out[6], out[7], stamp, last)
if is_bucket then
  state = state .. struct.pack('<I8I8I8', backlog, cell, drain)
else
  state = state .. struct.pack('<' .. COUNTS .. 'I4', counts[1], counts[2], counts[3], counts[4],
    counts[5], counts[6], counts[7], counts[8], counts[9], counts[10], counts[11],
    period_ms % 4294967296)
end
redis.call('SET', KEYS[1], state, 'PX', string.format('%.0f', keep_ms))
return struct.pack('<I4I4I4I4I4I4dBd', units, soon, era, floor(last / EPOCH) % 4294967296, version,
  left, rate, unit, wait)
