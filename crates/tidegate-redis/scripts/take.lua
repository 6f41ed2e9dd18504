-- Takes from n budgets, all or nothing. The Rust twin of every line here is
-- MemoryStore::answer in tidegate-core's ask.rs, with limit.rs and limit/*.rs: same
-- names, same order, and to the bit the same sums, because every quantity is a whole
-- number below 2^53. Change both or neither; tests/contract.rs holds them together.
--
-- KEYS  one per item, tidegate:<limit>:{<key>}
-- ARGV  1: now, in microseconds of any clock; 0 is this server's TIME
--       2 ..: one per item, packed '<BI4I4I4I4I4ddd': algorithm (1 token bucket, 2 sliding
--       window, 3 sliding counter), tick (us), cost, count, burst, owed (units, charged first
--       as far as there is room, whatever becomes of the rest), period (ticks), cell, drain
--       (units of backlog)
--       last, where there is one more: '' if what is taken may have to be given back; or
--       '<dd' packed, a receipt: then its cost is given back to the one item
-- reply four integers per item:
--       outcome (0 admitted, 1 refused for now, 2 refused for good),
--       remaining (units), reset (ticks), wait (ticks)
--       and with '', if all are admitted, two more for each after those, its receipt: mark
--       (where in the state the charge was counted: a bucket's last tick, a window's newest
--       sub-counter, a counter's window), before (the bucket's backlog before it)
--
-- What was taken is given back by the receipt, exactly: the state is then as if it had never
-- been taken, whatever others did meanwhile; only where the bucket would have run empty in
-- that time, so that others' debt would have drained sooner, up to so much less is given
-- back, never more. A charge that has faded, or that the state no longer knows, gives nothing.
--
-- State, one string per key, by its first byte (anything else is a key never seen):
--       1 '<BI4dddd' tick (us), backlog, last (tick), cell, drain      37 bytes
--       2 '<Bdd' newest, width (us), 11 x 'I4' counts, newest first    61 bytes
--       3 '<BI4ddI4I4' tick (us), id, window (ticks), prev, cur        29 bytes
-- It expires when it says the same as a key never seen, and SLACK_MS later, so that a
-- clock set back by less than that forgives nothing. Only an admitted cost is written.
--
-- A function costs some 70 ns to make and is made anew in every run: so each algorithm's
-- are made when first needed, and what is rarely needed within what needs it.

local SLACK_MS = 10000
local BYTES = { 37, 61, 29 }
local KEPT = 11 -- the ten parts of a period and the one that has just begun
local COUNTS = 'I4I4I4I4I4I4I4I4I4I4I4'
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local now_us = tonumber(ARGV[1])
if now_us == 0 then
  local time = redis.call('TIME') -- once: before Redis 7.2 it moves within a script
  now_us = time[1] * 1000000 + time[2]
end

local used -- by any state now, in whole units: what another algorithm starts from

local function token_bucket()
  local bucket = {}

  local function load(state)
    local _, tick, backlog, last, cell, drain = struct.unpack('<BI4dddd', state)
    return { tick = tick, backlog = backlog, last = last, cell = cell, drain = drain, full = 0 }
  end

  local function advance(b, now)
    if now > b.last then
      b.backlog = max(0, b.backlog - (now - b.last) * b.drain)
      b.last = now
    end
  end

  function bucket.used(state, b)
    b = b or load(state)
    advance(b, floor(now_us / b.tick))
    return ceil(b.backlog / b.cell)
  end

  -- The same use, counted in another quota's units; of a bucket, the time until now still
  -- drains at the old rate.
  local function adopted(old, q, state)
    local backlog, last = (old and bucket.used(state, old) or used(state)) * q.cell, q.now
    -- A coarser tick may have begun a while ago: that is no time to drain.
    if old then last = max(last, ceil(old.last * old.tick / q.tick)) end
    return { tick = q.tick, backlog = backlog, last = last, cell = q.cell, drain = q.drain, full = 0 }
  end

  function bucket.open(q, state)
    local b = state and state:byte() == 1 and load(state)
    if not b or b.cell ~= q.cell or b.drain ~= q.drain or b.tick ~= q.tick then
      b = adopted(b, q, state)
    end
    b.full = q.burst * q.cell
    if b.backlog > b.full then b.backlog = b.full end
    advance(b, q.now)
    return b
  end

  local function drains_to(b, target)
    if b.backlog <= target then return 0 end
    return b.last + ceil((b.backlog - target) / b.drain)
  end

  function bucket.room(b) return floor((b.full - b.backlog) / b.cell) end
  function bucket.admits_at(b, q, cost) return drains_to(b, max(0, b.full - cost * b.cell)) end
  function bucket.add(b, cost) b.backlog = b.backlog + cost * b.cell end
  function bucket.fresh_at(b) return drains_to(b, 0) end
  function bucket.close(b)
    return struct.pack('<BI4dddd', 1, b.tick, b.backlog, b.last, b.cell, b.drain)
  end
  return bucket
end

local function sliding_window()
  local ring = {}

  local function load(state)
    local _, newest, width, at = struct.unpack('<Bdd', state)
    return { newest = newest, width = width, struct.unpack('<' .. COUNTS, state, at) }
  end

  local function empty(newest, width)
    return { newest = newest, width = width, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  end

  local function count_at(r, number, cost)
    local age = max(0, r.newest - number)
    if age < KEPT then r[age + 1] = r[age + 1] + cost end
  end

  local function advance(r, now)
    local number = floor(now / r.width)
    local passed = min(max(0, number - r.newest), KEPT)
    if passed > 0 then
      for age = KEPT, passed + 1, -1 do r[age] = r[age - passed] end
      for age = 1, passed do r[age] = 0 end
      r.newest = number
    end
  end

  local function counted(r)
    local sum = 0
    for age = 1, KEPT do sum = sum + r[age] end
    return sum
  end

  -- The same use in sub-counters of another width: each goes where the last moment that it
  -- covers is counted.
  local function at_width(old, width, now)
    now = max(now, old.newest * old.width)
    local r = empty(floor(now / width), width)
    for age = 0, KEPT - 1 do
      local last = max(0, max(0, old.newest + 1 - age) * old.width - 1)
      count_at(r, floor(min(last, now) / width), old[age + 1])
    end
    return r
  end

  function ring.used(state)
    local r = load(state)
    advance(r, now_us)
    return counted(r)
  end

  function ring.open(q, state)
    local now, width, r = q.now, max(1, floor(q.period / 10))
    if state and state:byte() == 2 then
      r = load(state)
      if r.width ~= width then r = at_width(r, width, now) end
    else
      r = empty(floor(now / width), width)
      r[1] = used(state)
    end
    advance(r, now)
    return r
  end

  local function leaves_at(r, age) return (r.newest + KEPT - age) * r.width end

  function ring.room(r, q) return max(0, q.count - counted(r)) end

  function ring.admits_at(r, q, cost)
    local above = max(0, counted(r) + cost - q.count)
    for age = KEPT - 1, 0, -1 do
      above = max(0, above - r[age + 1])
      if above == 0 then return leaves_at(r, age) end
    end
    return leaves_at(r, 0)
  end

  function ring.add(r, cost) r[1] = r[1] + cost end

  function ring.fresh_at(r)
    for age = 0, KEPT - 1 do
      if r[age + 1] > 0 then return leaves_at(r, age) end
    end
    return 0
  end

  function ring.close(r)
    return struct.pack('<Bdd' .. COUNTS, 2, r.newest, r.width, unpack(r, 1, KEPT))
  end
  return ring
end

local function sliding_counter()
  local counter = {}

  local function load(state)
    local _, tick, id, window, prev, cur = struct.unpack('<BI4ddI4I4', state)
    return { tick = tick, id = id, window = window, prev = prev, cur = cur, elapsed = 0 }
  end

  local function advance(c, now)
    local id = floor(now / c.window)
    local passed = max(0, id - c.id)
    if passed == 1 then
      c.prev, c.cur = c.cur, 0
    elseif passed > 1 then
      c.prev, c.cur = 0, 0
    end
    c.id = max(c.id, id)
    c.elapsed = max(0, now - c.id * c.window)
  end

  local function carried(c)
    return ceil(c.prev * max(0, c.window - c.elapsed) / c.window)
  end

  function counter.used(state)
    local c = load(state)
    advance(c, floor(now_us / c.tick))
    return carried(c) + c.cur
  end

  function counter.open(q, state)
    local now, window, c = q.now, q.period
    if state and state:byte() == 3 then c = load(state) end
    if not c or c.window ~= window or c.tick ~= q.tick then
      local cur = min(used(state), q.count)
      c = { tick = q.tick, id = floor(now / window), window = window, prev = 0, cur = cur }
    end
    advance(c, now)
    return c
  end

  function counter.room(c, q) return max(0, q.count - c.cur - carried(c)) end

  function counter.admits_at(c, q, cost)
    -- In the current window as the last one fades, or in the next as this one does.
    local start, fading, room = c.id, c.prev, q.count - c.cur - cost
    if room < 0 then start, fading, room = c.id + 1, c.cur, max(0, q.count - cost) end
    local weight = c.window
    if fading > 0 then weight = floor(room * c.window / fading) end
    return start * c.window + max(0, c.window - weight)
  end

  function counter.add(c, cost) c.cur = c.cur + cost end

  function counter.fresh_at(c)
    if c.cur > 0 then return (c.id + 2) * c.window end
    if c.prev > 0 then return (c.id + 1) * c.window end
    return 0
  end

  function counter.close(c)
    return struct.pack('<BI4ddI4I4', 3, c.tick, c.id, c.window, c.prev, c.cur)
  end
  return counter
end

-- Made when first needed: most asks need one of them.
local makers, made = { token_bucket, sliding_window, sliding_counter }, {}
local function algorithm(code)
  if not made[code] then made[code] = makers[code]() end
  return made[code]
end

used = function(state)
  if not state then return 0 end
  return algorithm(state:byte()).used(state)
end

local quotas, states, reply = {}, redis.call('MGET', unpack(KEYS)), {}
local admitted, receipt = true, ARGV[#KEYS + 2]

-- The twins of Account::remove, but by receipt.
local take_back
if receipt and #receipt > 0 then
  local mark, before = struct.unpack('<dd', receipt)
  local of = {
    function(b, _, cost)
      local drained, units = max(0, b.last - mark) * b.drain, cost * b.cell
      -- How much more backlog there is than without the charge, if nobody else came.
      local owed = max(0, before + units - drained) - max(0, before - drained)
      if b.last >= mark then b.backlog = max(0, b.backlog - owed) end
    end,
    function(r, _, cost)
      local age = r.newest - mark
      if age < 0 or age >= KEPT then return end
      r[age + 1] = max(0, r[age + 1] - cost)
    end,
    function(c, _, cost)
      local passed = c.id - mark
      if passed == 0 then c.cur = max(0, c.cur - cost) end
      if passed == 1 then c.prev = max(0, c.prev - cost) end
    end,
  }
  take_back = function(code, a, q, cost) of[code](a, q, cost) end
end

local function state_of(i)
  local state = states[i]
  if state and #state ~= BYTES[state:byte() or 0] then return false end
  return state
end

local function keep(i, q, a)
  local fresh_ms = ceil((q.alg.fresh_at(a) * q.tick - now_us) / 1000)
  local ttl_ms = string.format('%.0f', max(0, fresh_ms) + SLACK_MS)
  states[i] = q.alg.close(a)
  redis.call('SET', KEYS[i], states[i], 'PX', ttl_ms)
end

-- The twin of Quota::charge_up_to.
local function charge_up_to(i, q, owed)
  local a = q.alg.open(q, state_of(i))
  local units = min(owed, q.alg.room(a, q))
  if units > 0 then
    q.alg.add(a, units)
    keep(i, q, a)
  end
end

-- Spends the account: the reset is of the account with nothing left.
local function answer(i, outcome, q, a, room, wait)
  q.alg.add(a, room)
  local at = 4 * i
  reply[at - 3], reply[at - 2] = outcome, room
  reply[at - 1], reply[at] = max(0, q.alg.admits_at(a, q, 1) - q.now), wait
end

for i = 1, #KEYS do
  local code, tick, cost, count, burst, owed, period, cell, drain =
    struct.unpack('<BI4I4I4I4I4ddd', ARGV[i + 1])
  local alg = algorithm(code)
  local q = { alg = alg, tick = tick, now = floor(now_us / tick), cost = cost, count = count,
              burst = burst, period = period, cell = cell, drain = drain, account = false, room = 0 }
  quotas[i] = q
  if owed > 0 then charge_up_to(i, q, owed) end
  if cost > burst then
    admitted = false
    reply[4 * i - 3], reply[4 * i - 2], reply[4 * i - 1], reply[4 * i] = 2, 0, 0, 0
  else
    local a = alg.open(q, state_of(i))
    if take_back then
      take_back(code, a, q, cost)
      cost, q.cost = 0, 0
    end
    local room = alg.room(a, q)
    if cost > room then
      admitted = false
      answer(i, 1, q, a, room, max(0, alg.admits_at(a, q, cost) - q.now))
    else
      q.account, q.room = a, room
      if receipt == '' then
        local at = 4 * #KEYS + 2 * i
        reply[at - 1], reply[at] = a.last or a.newest or a.id, a.backlog or 0
      end
    end
  end
end

for i = 1, #KEYS do
  local q = quotas[i]
  local a, left = q.account, q.room
  if a then
    if admitted then
      q.alg.add(a, q.cost)
      left = left - q.cost
      if q.cost > 0 or take_back then
        keep(i, q, a)
      end
    end
    answer(i, 0, q, a, left, 0)
  end
end
return reply
