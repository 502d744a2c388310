-- Purpose: the end of a run: its build ends, or goes back into line for another attempt.
-- KEYS[1] {prefix}:schema
-- ARGV[2] id, ARGV[3] epoch, ARGV[4] worker, ARGV[5] outcome succeeded|failed|cancelled, ARGV[6] class
--   of a failure, ARGV[7] its reason (of a success: that nothing was run for it), ARGV[8] node that it ran on
--   or empty, ARGV[9] last log lines or empty, ARGV[10] id of the last log entry or empty, ARGV[11] random
--   number in [0, 1), ARGV[12] blame of the node: certain, suspect or empty, ARGV[13] what a suspect failed
--   of, the same on any node
-- Returns: {'ended', state} | {'retried', not before ms, attempt} | {'stale'} | {'unknown'}
-- Invariants: I1, I3, I4
local refused = gate()
if refused then return refused end
local id, epoch, worker, outcome, class, reason, node = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local b, lane, moves -- the build, what is kept of its lane, whether that belongs elsewhere now

-- How long the run took, in ms.
local function duration()
  local DURATION_MAX = 7200000 -- longer ones count as two hours: one must not spoil the mean of all
  return math.max(1, math.min(now - (tonumber(b.claimed) or now), DURATION_MAX))
end

-- The typical one of `count` durations and another: their geometric mean, in which the latest weighs a
-- quarter at least, and counts as eight times as long as the others, or an eighth, at most.
local function typical(mean, count, took)
  if not mean then return took end
  local step = math.max(1 / 8, math.min(took / mean, 8))
  return math.max(1, math.floor(mean * step ^ (1 / math.min(count + 1, 4)) + 0.5))
end

-- What the queue knows of durations is worth most: a lane's own, and the mean of all lanes.
local function learn()
  local took = duration()
  local stats = base .. 'stats:' .. b.lane
  lane = stats_of(b.lane)
  local was_slow = is_slow(lane.mean)
  lane.mean = typical(lane.mean, lane.succeeded, took)
  moves = is_slow(lane.mean) ~= was_slow
  call('HSET', stats, 'mean', ms(lane.mean), 'succeeded', ms(lane.succeeded + 1))
  call('EXPIRE', stats, STATS_KEEP_S)
  local count = math.min(T.mean_of + 1, 200)
  local old = T.mean or 0
  call('HSET', base .. 'totals', 'mean', ms(old + (took - old) / count), 'mean_of', ms(count))
end

local function log_fields()
  local run = ms(b.attempt)
  return { 'worker', worker, 'attempt', run, 'log_run', run, 'log_end', ARGV[10] }
end

-- The common end: a success of the build's holder, which needs few of its fields.
local v = call('HMGET', base .. 'build:' .. id, 'state', 'epoch', 'worker', 'lane', 'image', 'seq', 'people',
  'attempt', 'claimed', 'asked', 'shared', 'bg')
b = {
  state = v[1], epoch = v[2], worker = v[3], lane = v[4], image = v[5], seq = tonumber(v[6]), people = tonumber(v[7]),
  attempt = tonumber(v[8]), claimed = v[9], asked = tonumber(v[10]), shared = v[11] ~= '' and v[11],
  bg = v[12] ~= '' and v[12],
}
local succeeds = outcome == 'succeeded' and holds(b, epoch, worker)
if succeeds then
  give_back(id, b)
  local fields = log_fields()
  if reason == '' then
    learn()
  else
    -- Nothing was run: that says nothing of how long builds take.
    lane = stats_of(b.lane)
    fields[#fields + 1], fields[#fields + 2] = 'reason', reason
  end
  end_build(id, b, 'succeeded', fields)
  moves = moves or lane.at and lane.at ~= 'lanes' or resolve(b.lane).own
  -- A lane that may start a build still may with a permit more; without queued builds it is nowhere.
  if not moves and (node == '' or b.attempt == 1 and T.avoided == 0) then
    wake()
    return { 'ended', 'succeeded' }
  end
end

do
  --- All other ends, and what a success sets going besides.
  local ATTEMPTS_MAX, BACKOFF_MS, BACKOFF_MAX_MS = 3, 5000, 300000
  local late
  if not succeeds then
    b = load(id)
    local state = b.state
    if not state then return { 'unknown' } end
    if is_ended(state) then
      if b.epoch == epoch and b.worker == worker then return { 'ended', state } end
      return { 'stale' }
    end
    -- Given up for lost and not begun again: what its last holder made is good all the same.
    late = state == 'queued' and b.epoch == epoch and b.last_worker == worker
    if late and b.requeued_by == 'finish' then return { 'retried', b.not_before or NOW, ms(b.attempt) } end
    if not holds(b, epoch, worker) and not (late and outcome == 'succeeded') then
      -- Redis knows of no lease as late as this one: it has lost the claim.
      return { (tonumber(b.epoch) or 0) < tonumber(epoch) and 'unknown' or 'stale' }
    end

    -- Either way begins with a ZREM, so that at maxmemory the rest passes too.
    if late then
      leave_line(id, b)
      b.attempt = b.attempt - 1
    else
      give_back(id, b)
    end
    if outcome == 'failed' and b.cancelling then outcome = 'cancelled' end
  end

  -- A ban or a hold "until built" ends with a success asked for with the rule or after it.
  local function built()
    local text = resolve(b.lane).own
    if not text then return end
    local rule = cjson.decode(text)
    if b.asked < (rule.at or 0) then return end
    local over = false
    for _, part in ipairs({ 'ban', 'hold' }) do
      if rule[part] and rule[part].until_built then rule[part], over = nil, true end
    end
    if not over then return end
    audit('fairlane', 'rule ended', b.lane, 'built by ' .. id)
    keep_rule(b.lane, rule)
  end

  local reply = { 'ended', outcome }
  if outcome == 'succeeded' then
    if late then
      end_build(id, b, 'succeeded', log_fields())
    elseif node ~= '' and (b.attempt > 1 or T.avoided > 0) then
      node_tools().clear_up(id, b.lane, node, worker)
    end
    built()
  elseif outcome == 'cancelled' then
    end_build(id, b, 'cancelled', log_fields())
  else
    local fields = log_fields()
    local kept = {}
    if node ~= '' and ARGV[12] ~= '' and class ~= 'repository' then
      kept, class, reason = node_tools().blame(id, b, node, worker, ARGV[12] == 'certain', ARGV[13], class, reason)
    end
    b.class = class
    if class == 'infrastructure' then b.failures = b.failures + 1 end
    if class == 'stuck' then b.stuck = b.stuck + 1 end
    local spent = b.failures + b.stuck
    local again = class ~= 'repository' and spent < ATTEMPTS_MAX and b.stuck < 2
    fields[#fields + 1], fields[#fields + 2] = 'class', class
    fields[#fields + 1], fields[#fields + 2] = 'reason', reason
    fields[#fields + 1], fields[#fields + 2] = 'log_tail', ARGV[9]
    if again then
      local wait = math.min(BACKOFF_MS * 4 ^ (spent - 1), BACKOFF_MAX_MS) * (0.5 + tonumber(ARGV[11]) / 2)
      local not_before = now + math.floor(wait)
      for _, field in ipairs({ 'class', class, 'reason', reason, 'log_tail', ARGV[9], 'failures', ms(b.failures),
        'stuck', ms(b.stuck) }) do kept[#kept + 1] = field end
      requeue(id, b, 'finish', not_before, kept)
      reply = { 'retried', ms(not_before), ms(b.attempt + 1) }
    else
      local stats = base .. 'stats:' .. b.lane
      call('HSET', stats, 'failed_at', NOW, 'failure', reason)
      if class == 'repository' then
        -- Kept apart: a lane that fails at once is no quick one once it is mended.
        local f = call('HMGET', stats, 'failed_mean', 'failed')
        call('HSET', stats, 'failed_mean', ms(typical(tonumber(f[1]), tonumber(f[2]) or 0, duration())))
      end
      call('HINCRBY', stats, 'failed', '1')
      call('EXPIRE', stats, STATS_KEEP_S)
      end_build(id, b, 'failed', fields)
      reply = { 'ended', 'failed' }
    end
  end
  place(b.lane, lane)
  wake()
  return reply
end
