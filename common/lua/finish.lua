-- Purpose: the end of a run: its build ends, or goes back into line for another attempt.
-- KEYS[1] {prefix}:schema
-- ARGV[2] id, ARGV[3] epoch, ARGV[4] worker, ARGV[5] outcome succeeded|failed|cancelled, ARGV[6] class
--   of a failure, ARGV[7] reason, ARGV[8] node that it ran on or empty, ARGV[9] last log lines or empty,
--   ARGV[10] id of the last log entry or empty, ARGV[11] random number in [0, 1), ARGV[12] blame of the
--   node: certain, suspect or empty, ARGV[13] what a suspect failed of, the same on any node
-- Returns: {'ended', state} | {'retried', not before ms, attempt} | {'stale'}
-- Invariants: I1, I3, I4
local refused = gate()
if refused then return refused end
local id, epoch, worker, outcome, class, reason, node = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local ATTEMPTS_MAX, BACKOFF_MS, BACKOFF_MAX_MS = 3, 5000, 300000
local b = load(id)
local state = b.state
if state and is_ended(state) then
  if b.epoch == epoch and b.worker == worker then return { 'ended', state } end
  return { 'stale' }
end
-- Given up for lost and not begun again: what its last holder made is good all the same.
local late = state == 'queued' and b.epoch == epoch and b.last_worker == worker
if late and b.requeued_by == 'finish' then return { 'retried', b.not_before or NOW, ms(b.attempt) } end
if not holds(b, epoch, worker) and not (late and outcome == 'succeeded') then return { 'stale' } end

-- Either way begins with a ZREM, so that at maxmemory the rest passes too.
if late then
  leave_line(id, b)
  b.attempt = b.attempt - 1
else
  give_back(id, b)
end
if outcome == 'failed' and b.cancelling then outcome = 'cancelled' end
local fields = { 'worker', worker, 'attempt', ms(b.attempt), 'log_run', ms(b.attempt), 'log_end', ARGV[10] }

-- What the queue knows of durations is worth most: a lane's own mean, and that of all lanes.
local lane -- what is kept of it, once it was read
local function learn()
  local took = math.min(now - (tonumber(b.claimed) or now), DURATION_MAX)
  local stats = base .. 'stats:' .. b.lane
  lane = stats_of(b.lane)
  lane.mean = math.floor((lane.mean and 0.7 * lane.mean + 0.3 * took or took) + 0.5)
  call('HSET', stats, 'mean', ms(lane.mean), 'succeeded', ms(lane.succeeded + 1))
  call('EXPIRE', stats, STATS_KEEP_S)
  local count = math.min(T.mean_of + 1, 200)
  local old = T.mean or 0
  call('HSET', base .. 'totals', 'mean', ms(old + (took - old) / count), 'mean_of', count)
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

-- Nodes on which earlier runs failed of words in their logs alone, by what they failed of.
local function suspects()
  local text = b.failures + b.stuck > 0 and call('HGET', base .. 'build:' .. id, 'suspects')
  return text and cjson.decode(text) or {}
end

-- The build has succeeded here: what it failed of elsewhere was the fault of the nodes there.
local function clear_up()
  local nodes = node_tools()
  local known = nodes.known(worker)
  for _, one in pairs(suspects()) do
    if one.node ~= node then nodes.count_failure(one.node, b.place, known, b.lane, one.at, one.reason) end
  end
  if known == 1 and nodes.avoided_at(b.place)[1] == node then
    nodes.take_back(node)
    audit('fairlane', 'node taken back', node, 'a build succeeded on it')
  end
end

-- Whom a failure is put down to; gives what is to be kept with a build that is tried again.
local function blame()
  if node == '' or ARGV[12] == '' or class == 'repository' then return {} end
  local nodes, kept = node_tools(), {}
  local known = nodes.known(worker)
  if ARGV[12] == 'certain' then
    nodes.count_failure(node, b.place, known, b.lane, now, reason)
  else
    local list, cause = suspects(), ARGV[13]
    local first = list[cause]
    local function is_bad(name) return T.avoided > 0 and call('ZSCORE', base .. 'nodes', name) end
    if not first then
      list[cause] = { node = node, at = now, reason = reason }
      kept = { 'suspects', cjson.encode(list) }
    elseif first.node ~= node and not is_bad(node) and not is_bad(first.node) then
      class = 'repository'
      reason = reason .. ' (as before on node ' .. first.node .. ', so it is put down to the repository)'
      return {}
    end
  end
  local avoid, fresh = b.avoid and cjson.decode(b.avoid) or {}, true
  for _, name in ipairs(avoid) do fresh = fresh and name ~= node end
  if fresh then avoid[#avoid + 1] = node end
  -- One node must be left to go to.
  while known > 0 and #avoid >= known do table.remove(avoid, 1) end
  kept[#kept + 1], kept[#kept + 2] = 'avoid', #avoid > 0 and cjson.encode(avoid) or ''
  return kept
end

local reply
if outcome == 'succeeded' then
  if not late then learn() end
  if node ~= '' and (T.avoided > 0 or b.failures + b.stuck > 0) then clear_up() end
  built()
  end_build(id, b, 'succeeded', fields)
  reply = { 'ended', 'succeeded' }
elseif outcome == 'cancelled' then
  end_build(id, b, 'cancelled', fields)
  reply = { 'ended', 'cancelled' }
else
  local kept = blame()
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
    call('HINCRBY', stats, 'failed', 1)
    call('EXPIRE', stats, STATS_KEEP_S)
    end_build(id, b, 'failed', fields)
    reply = { 'ended', 'failed' }
  end
end
place(b.lane, lane)
wake()
return reply
