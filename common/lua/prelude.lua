-- Purpose: what every script of the queue shares: the clock, the gate, reading a build, telling what
--   happened. Compiled in front of each script, with lanes.lua and ends.lua.
-- KEYS[1] {prefix}:schema. All other keys carry the same hash tag and are computed from it.
-- ARGV[1] time in Unix ms for a simulated queue, empty for Redis's own clock.
-- Returns: nothing by itself; gate() gives {'emptied'} or {'schema', found}.
local call = redis.call
local base = string.sub(KEYS[1], 1, -7)

local BACKGROUND = 1e12          -- ms; puts background builds behind all interactive ones
local KEEP_S = 86400             -- how long ended builds stay
local STATS_KEEP_S = 180 * 86400 -- how long a lane's durations stay after its latest build
local EVENTS_MAX = 10000
local AUDIT_MAX = 100000
local HOUR = 3600000
local ADOPTIONS_MAX = 5          -- a run that is lost more often within an hour kills its workers
local DURATION_MAX = 7200000     -- longer builds count as two hours: one must not spoil the mean
local MEMORY_S = { succeeded = 60, repository = 300, stuck = 300, infrastructure = 30 }

local now
if ARGV[1] == '' then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
else
  now = tonumber(ARGV[1])
end

-- Numbers leave Lua as text: tostring gives 1.764e+12, and replies cut numbers to integers.
local function ms(number) return string.format('%.0f', number) end
local NOW = ms(now)

local T -- totals and policy, read once
local function totals()
  local v = call('HMGET', base .. 'totals', 'slots', 'background', 'mean', 'patience', 'overtake_max', 'limit',
    'burst', 'slow_after', 'slow_limit', 'people_max')
  T = { slots = tonumber(v[1]) or 0, background = tonumber(v[2]) or 0, mean = tonumber(v[3]) }
  T.patience = tonumber(v[4]) or 30
  T.overtake_max = tonumber(v[5]) or 4 * HOUR
  T.fixed_limit = tonumber(v[6])
  T.limit = T.fixed_limit or (T.slots < 4 and 1 or 2)
  T.burst = math.max(tonumber(v[7]) or 3, T.limit)
  T.slow_after = tonumber(v[8]) or HOUR
  T.slow_limit = tonumber(v[9]) or math.max(1, math.floor(T.slots / 2))
  T.people_max = tonumber(v[10]) or 200
  T.background_max = math.max(1, math.floor(T.slots * 3 / 4))
end

-- What keeps this script from running at all, or nil.
local function gate()
  local schema = call('GET', KEYS[1])
  if not schema then return { 'emptied' } end
  if string.match(schema, '^(%d+)%.') ~= '1' then return { 'schema', schema } end
  if ARGV[1] ~= '' and call('EXISTS', base .. 'simulation') == 0 then
    return redis.error_reply('ERR a time was given to a queue that is not simulated')
  end
  totals()
end

local function is_ended(state) return state == 'succeeded' or state == 'failed' or state == 'cancelled' end

local FIELDS = { 'state', 'epoch', 'worker', 'lane', 'image', 'seq', 'people', 'attempt', 'due', 'priority', 'shared',
  'place', 'cancelling', 'bg', 'failures', 'stuck', 'started', 'claimed', 'asked', 'expected', 'not_before',
  'adoptions', 'adoptions_since', 'last_worker', 'requeued_by', 'avoid' }
local NUMBERS = { seq = 0, people = 0, attempt = 1, failures = 0, stuck = 0, adoptions = 0, adoptions_since = 0,
  asked = 0, expected = 0 }

-- A build's fields; empty ones are absent, counters are numbers.
local function load(id)
  local values = call('HMGET', base .. 'build:' .. id, unpack(FIELDS))
  local b = {}
  for i, field in ipairs(FIELDS) do
    if values[i] and values[i] ~= '' then b[field] = values[i] end
  end
  for field, default in pairs(NUMBERS) do b[field] = tonumber(b[field]) or default end
  return b
end

-- Whether (epoch, worker) is the build's token.
local function holds(b, epoch, worker)
  return (b.state == 'starting' or b.state == 'running' or b.state == 'orphaned')
    and b.epoch == epoch and b.worker == worker
end

local function tell(id, lane, state, seq)
  call('XADD', base .. 'events', 'MAXLEN', '~', EVENTS_MAX, '*',
    'build', id, 'lane', lane, 'state', state, 'seq', ms(seq))
end

local function audit(by, act, what, detail)
  call('XADD', base .. 'audit', 'MAXLEN', '~', AUDIT_MAX, '*',
    'at', NOW, 'by', by, 'act', act, 'what', what, 'detail', detail)
end

