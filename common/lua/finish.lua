-- Purpose: the ends of runs: their builds end, or go back into line for another attempt. An end that fails does not
--   affect the others of the same call.
-- KEYS[1] {prefix}:schema
-- W: worker
-- items: id, epoch, outcome succeeded|failed|cancelled, class of a failure, its reason (of a success:
--   that no run was needed), node that it ran on or empty, log_tail (last lines) or empty, log_end (id of the
--   last entry) or empty, random number in [0, 1), blame of the node: certain, suspect, machine (as suspect, but
--   never the repository's fault), unclear (tried once more, then it is the repository's fault) or empty,
--   alike (the cause of a suspect failure, the same text on any node), cause of a failure (a word of CAUSES; `other` if
--   empty or unknown), log_bytes of the logs of all runs or empty, log_missing (how many lines the log lacks) or empty
-- Returns: {'each': answers: {'ended': state} | {'retried': not_before, attempt} | {'stale'} | {'unknown'} |
--   {'broken': error}}
-- Invariants: I1, I3, I4
local ATTEMPTS_MAX, BACKOFF_MS, BACKOFF_MAX_MS = 3, 5000, 300000
local worker             -- who reports
local some_ended         -- whether a run has ended through this call
local new_mean, new_mean_of -- the mean of all lanes and how many runs it is of, with what this call has learned, if anything
local DURATION_MAX = 7200000 -- longer ones count as two hours, so that one does not distort the mean

-- How long a build's run took, in ms, for a mean.
local function duration(b) return max(1, min(age_of(b), DURATION_MAX)) end

-- The typical duration after one more: the geometric mean, in which the latest weighs at least a quarter. The
-- latest is clamped to between an eighth and eight times the mean so far.
local function typical(mean, count, took)
  if not mean then return took end
  local step = max(1 / 8, min(took / mean, 8))
  return max(1, floor(mean * step ^ (1 / min(count + 1, 4)) + 0.5))
end

-- Learns from the duration of a success: for the lane, and for the mean of all lanes. Returns the lane's new
-- stats, and whether they move the lane to another set.
local function learn(b)
  local took, stats = duration(b), base .. 'stats:' .. b.lane
  local lane = stats_of(b.lane)
  local was_slow = is_slow(lane)
  lane.mean = typical(lane.mean, lane.succeeded, took)
  call('HSET', stats, 'mean', ms(lane.mean), 'succeeded', ms(lane.succeeded + 1))
  call('EXPIRE', stats, STATS_KEEP_S)
  if is_long(age_of(b)) then
    note_slow(lane, b.lane)
  elseif lane.slow > 0 then
    lane.slow = call('HINCRBY', stats, 'slow', '-1')
  end
  local old = new_mean or T.mean or 0
  new_mean_of = min((new_mean_of or T.mean_of) + 1, 200)
  new_mean = floor(old + (took - old) / new_mean_of)
  return lane, is_slow(lane) ~= was_slow
end

local function log_fields(b, ...)
  local run = ms(b.attempt)
  local fields = { 'log_run', run, 'log_bytes', W.log_bytes, ... }
  if W.log_end ~= '' then fields[#fields + 1], fields[#fields + 2] = 'log_end', W.log_end end
  -- It had been presumed lost, and put back into line.
  if b.worker ~= worker then
    for _, field in ipairs({ 'worker', worker, 'attempt', run }) do fields[#fields + 1] = field end
  end
  if W.node ~= '' then fields[#fields + 1], fields[#fields + 2] = 'node', W.node end
  return fields
end

-- A ban or hold "until built" ends with a success that was requested with the rule or after it.
local function built(id, b)
  local rule = rule_of(resolve(b.lane).own)
  if not rule then return end
  if b.asked < (rule.at or 0) then return end
  local over = false
  for _, part in ipairs({ 'ban', 'hold' }) do
    if rule[part] and rule[part].until_built then rule[part], over = nil, true end
  end
  if not over then return end
  audit('fairlane', 'rule ended', b.lane, 'built by ' .. id)
  keep_rule(b.lane, rule)
end

-- A success of the build's holder.
local function succeed(id, b, reason, node)
  give_back(id, b)
  local lane, moves
  if reason == '' then
    lane, moves = learn(b)
    end_build(id, b, 'succeeded', log_fields(b))
  else
    -- There was no run, so it says nothing about durations.
    lane = stats_of(b.lane)
    end_build(id, b, 'succeeded', log_fields(b, 'reason', reason))
  end
  if node ~= '' and (b.attempt > 1 or T.avoided > 0) then nodes.clear_up(id, b.lane, node) end
  -- A lane that could start a build still can with one more free permit; without queued builds it is in no
  -- set.
  if moves or lane.at and lane.at ~= 'lanes' or resolve(b.lane).own then
    built(id, b)
    sort_lane(b.lane, lane)
  end
  return { 'ended', 'state', 'succeeded' }
end

-- A failure: another attempt if the cause lies outside the repository.
local function fail(id, b, class, reason, node)
  local kept, cause = {}, known_cause(W.cause)
  if (node ~= '' or W.blame == 'unclear') and class ~= 'repository' then
    kept, class, reason = nodes.blame(id, b, node, W.blame, W.alike, class, reason)
  end
  b.class = class
  local failures, stuck = b.failures, b.stuck
  if class == 'infrastructure' then failures = failures + 1 end
  if class == 'stuck' then stuck = stuck + 1 end
  local spent = failures + stuck
  if class ~= 'repository' and spent < ATTEMPTS_MAX and stuck < 2 then
    local wait = min(BACKOFF_MS * 4 ^ (spent - 1), BACKOFF_MAX_MS) * (0.5 + tonumber(W.random) / 2)
    local not_before = now + floor(wait)
    for _, field in ipairs({ 'class', class, 'cause', cause, 'reason', reason, 'log_tail', W.log_tail,
      'failures', ms(failures), 'stuck', ms(stuck) }) do kept[#kept + 1] = field end
    if node ~= '' then kept[#kept + 1], kept[#kept + 2] = 'node', node end
    requeue(id, b, 'finish', not_before, kept)
    tally_failure('retried', class, cause)
    return { 'retried', 'not_before', ms(not_before), 'attempt', ms(spent + 1) }
  end
  local stats = base .. 'stats:' .. b.lane
  call('HSET', stats, 'failed_at', NOW, 'failure', reason)
  if class == 'repository' then
    -- Kept separately: a lane that fails quickly is not a quick lane once it is fixed.
    local f = call('HMGET', stats, 'failed_mean', 'failed')
    call('HSET', stats, 'failed_mean', ms(typical(tonumber(f[1]), tonumber(f[2]) or 0, duration(b))))
  end
  call('HINCRBY', stats, 'failed', '1')
  call('EXPIRE', stats, STATS_KEEP_S)
  end_build(id, b, 'failed', log_fields(b, 'class', class, 'cause', cause, 'reason', reason, 'log_tail',
    W.log_tail))
  return { 'ended', 'state', 'failed' }
end

-- The answer to a repeated call, which counts nothing again.
local function again(reply)
  W.log_missing = ''
  return reply
end

-- All other ends.
local function otherwise(id, b, epoch, outcome, class, reason, node)
  local state = b.state
  if not state then return { 'unknown' } end
  if is_ended(state) then
    if b.epoch == epoch and b.worker == worker then return again({ 'ended', 'state', state }) end
    return { 'stale' }
  end
  -- It was presumed lost and has not been started again: the last holder's image is still good.
  local late = state == 'queued' and b.epoch == epoch and b.last_worker == worker
  if late and b.requeued_by == 'finish' then
    return again({ 'retried', 'not_before', b.not_before or NOW, 'attempt', ms(b.failures + b.stuck + 1) })
  end
  if not holds(b, epoch, worker) and not (late and outcome == 'succeeded') then
    -- Redis does not know a lease this new, so it has lost the claim.
    return { (tonumber(b.epoch) or 0) < tonumber(epoch) and 'unknown' or 'stale' }
  end

  local reply = { 'ended', 'state', 'cancelled' }
  if late then
    leave_line(id, b)
    b.attempt = b.attempt - 1
    end_build(id, b, 'succeeded', log_fields(b))
    built(id, b)
    reply = { 'ended', 'state', 'succeeded' }
  else
    give_back(id, b)
    if outcome == 'cancelled' or b.cancelling then
      end_build(id, b, 'cancelled', log_fields(b))
    else
      reply = fail(id, b, class, reason, node)
    end
  end
  sort_lane(b.lane)
  return reply
end

local function finish(run)
  -- From here on, the arguments are what is said of this run.
  W = run
  local id, epoch, outcome, class, reason, node = W.id, W.epoch, W.outcome, W.class, W.reason, W.node
  local b, reply = load(id), nil
  if outcome == 'succeeded' and holds(b, epoch, worker) then
    reply = succeed(id, b, reason, node)
  else
    reply = otherwise(id, b, epoch, outcome, class, reason, node)
  end
  if reply[1] ~= 'stale' and reply[1] ~= 'unknown' then
    if W.log_missing ~= '' then call('HINCRBY', K.totals, 'log_lines_missing', W.log_missing) end
    some_ended = true
  end
  return reply
end

local function new_item()
  return { id = '', epoch = '', outcome = '', class = '', reason = '', node = '', log_tail = '', log_end = '', random = '',
    blame = '', alike = '', cause = '', log_bytes = '', log_missing = '', because = '' }
end

operation('finish', ALWAYS, function()
  worker, some_ended, new_mean, new_mean_of = W.worker, false, nil, nil
  local reply = each_item(finish)
  if new_mean then call('HSET', K.totals, 'mean', ms(new_mean), 'mean_of', ms(new_mean_of)) end
  if some_ended then wake() end
  return reply
end, 'id', new_item)
