-- Purpose: what every operation of the queue shares: the clock, the gate, reading a build, telling what
--   happened. The library is this file, lanes.lua, ends.lua and nodes.lua, then one file for each operation.
--   Redis compiles it once; what a call needs anew is set by begin().
local call, base, KEYS, ARGV -- this call's way to Redis, the start of its keys, its words
local now, NOW               -- this call's time in Unix ms, as a number and as text
local T                      -- totals and policy, each read when it is first asked for
local resolved, unruled      -- what this call has read of rules, see resolve()

local BACKGROUND = 1e12          -- ms; puts background builds behind all interactive ones
local KEEP_S = 86400             -- how long ended builds stay
local HOUR = 3600000
local ADOPTIONS_MAX = 5          -- a run that is lost more often within an hour kills its workers
local STATS_KEEP_S = '15552000'  -- 180 days: how long a lane's durations stay after its latest build

-- Numbers leave Lua as text: tostring gives 1.764e+12, and replies cut numbers to integers.
-- (%d is a 64-bit integer here, as Redis itself is; it takes half as long as %.0f. What is text
-- already is best left so: this takes as long as a small command.)
local function ms(number) return string.format('%d', number) end

-- What is asked for comes with those that go with it.
local lazily = {
  __index = function(t, name)
    if name == 'patience' or name == 'overtake_max' or name == 'people_max' or name == 'refill_until'
      or name == 'mean' then
      local v = call('HMGET', base .. 'totals', 'patience', 'overtake_max', 'people_max', 'refill_until', 'mean')
      t.patience = tonumber(v[1]) or 30
      t.overtake_max = tonumber(v[2]) or 4 * HOUR
      t.people_max = tonumber(v[3]) or 200
      t.refill_until = tonumber(v[4]) or 0
      t.mean = tonumber(v[5]) or false
    else
      local v = call('HMGET', base .. 'totals', 'slots', 'background', 'limit', 'burst', 'slow_after', 'slow_limit',
        'mean', 'mean_of', 'avoided', 'refill_until')
      local slots = tonumber(v[1]) or 0
      t.slots = slots
      t.background = tonumber(v[2]) or 0
      t.background_max = math.max(1, math.floor(slots * 3 / 4))
      t.limit = tonumber(v[3]) or (slots < 4 and 1 or 2)
      t.burst = math.max(tonumber(v[4]) or 3, t.limit)
      t.slow_after = tonumber(v[5]) or HOUR
      t.slow_limit = tonumber(v[6]) or math.max(1, math.floor(slots / 2))
      t.mean = tonumber(v[7]) or false
      t.mean_of = tonumber(v[8]) or 0
      t.avoided = tonumber(v[9]) or 0 -- nodes that are
      t.refill_until = tonumber(v[10]) or 0
    end
    return rawget(t, name)
  end,
}

-- Redis passes on to the next call what a module's locals hold: each call begins here.
local function begin(keys, args)
  call, KEYS, ARGV = redis.call, keys, args
  base = string.sub(keys[1], 1, -7)
  if args[1] == '' then
    local time = call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  else
    now = tonumber(args[1])
  end
  NOW = ms(now)
  T = setmetatable({}, lazily)
  resolved, unruled = {}, nil
end

-- What keeps an operation from running at all, or nil.
local function gate()
  local schema = call('GET', KEYS[1])
  if not schema then return { 'emptied' } end
  if string.match(schema, '^(%d+)%.') ~= '1' then return { 'schema', schema } end
  if ARGV[1] ~= '' and call('EXISTS', base .. 'simulation') == 0 then
    return redis.error_reply('ERR a time was given to a queue that is not simulated')
  end
end

-- What an operation may do when Redis has used up its memory: end what there is, but add nothing.
local ALWAYS, ADDS, READS = { 'allow-oom' }, {}, { 'no-writes' }

local function register(name, flags, run)
  redis.register_function({ function_name = 'fairlane_' .. name .. SUFFIX, flags = flags, callback = run })
end

-- An operation on the queue.
-- KEYS[1] {prefix}:schema. All other keys carry the same hash tag and are computed from it.
-- ARGV[1] time in Unix ms for a simulated queue, empty for Redis's own clock.
-- Returns: what `run` returns, or {'emptied'} | {'schema', found}.
local function operation(name, flags, run)
  register(name, flags, function(keys, args)
    begin(keys, args)
    return gate() or run()
  end)
end

local function is_ended(state) return state == 'succeeded' or state == 'failed' or state == 'cancelled' end

-- A build's fields; empty ones are false, counters are numbers.
local function load(id)
  local v = call('HMGET', base .. 'build:' .. id, 'state', 'epoch', 'worker', 'lane', 'image', 'seq', 'people',
    'attempt', 'due', 'priority', 'shared', 'place', 'cancelling', 'bg', 'failures', 'stuck', 'started', 'claimed',
    'asked', 'expected', 'not_before', 'adoptions', 'adoptions_since', 'last_worker', 'requeued_by', 'avoid')
  for i = 1, #v do
    if v[i] == '' then v[i] = false end
  end
  return {
    state = v[1], epoch = v[2], worker = v[3], lane = v[4], image = v[5],
    seq = tonumber(v[6]) or 0, people = tonumber(v[7]) or 0, attempt = tonumber(v[8]) or 1,
    due = v[9], priority = v[10], shared = v[11], place = v[12], cancelling = v[13], bg = v[14],
    failures = tonumber(v[15]) or 0, stuck = tonumber(v[16]) or 0, started = v[17], claimed = v[18],
    asked = tonumber(v[19]) or 0, expected = tonumber(v[20]) or 0, not_before = v[21],
    adoptions = tonumber(v[22]) or 0, adoptions_since = tonumber(v[23]) or 0,
    last_worker = v[24], requeued_by = v[25], avoid = v[26],
  }
end

-- Whether (epoch, worker) is the build's token.
local function holds(b, epoch, worker)
  return (b.state == 'starting' or b.state == 'running' or b.state == 'orphaned')
    and b.epoch == epoch and b.worker == worker
end

-- A build's next change has this number.
local function next_seq(b)
  b.seq = b.seq + 1
  return ms(b.seq)
end

local function tell(id, lane, state, seq)
  local EVENTS_MAX = '10000' -- as text, like all that Redis is only handed: a number takes it longer
  call('XADD', base .. 'events', 'MAXLEN', '~', EVENTS_MAX, '*',
    'build', id, 'lane', lane, 'state', state, 'seq', seq)
end

local function audit(by, act, what, detail)
  local AUDIT_MAX = '100000'
  call('XADD', base .. 'audit', 'MAXLEN', '~', AUDIT_MAX, '*',
    'at', NOW, 'by', by, 'act', act, 'what', what, 'detail', detail)
end

