-- Purpose: asks for a build: a new one, a live one of the same image joined, or a fresh outcome.
-- KEYS[1] {prefix}:schema
-- ARGV[2] id of a new build, ARGV[3] image, ARGV[4] repo, ARGV[5] ref, ARGV[6] lane, ARGV[7] name,
--   ARGV[8] priority, ARGV[9] args JSON, ARGV[10] push 0/1, ARGV[11] labels JSON, ARGV[12] sealed
--   secrets or empty, ARGV[13] force 0/1, ARGV[14] operate 0/1, ARGV[15] dispatcher or empty
-- Returns: {'new'|'joined'|'ended', id, state, attempt, people, position or '', expected ms}
--   | {'refilling', ms} | {'conflict', id, repo, ref} | {'banned', rule, message, until or ''} | {'full', what, max}
-- Invariants: I1, I2, I5, I7
local refused = gate()
if refused then return refused end
if T.refill_until > now then return { 'refilling', ms(T.refill_until - now) } end
local id, image, repo, ref, lane = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local priority, args, secrets = ARGV[8], ARGV[9], ARGV[12]
local force, operate, dispatcher = ARGV[13] == '1', ARGV[14] == '1', ARGV[15]
local QUEUED_MAX, LANE_MAX, DISPATCHER_MS = 1000000, 10000, 10000

-- Its place in line, from 1.
local function place_of(which)
  local rank = call('ZRANK', base .. 'queued', which)
  return rank and ms(rank + 1) or ''
end

local function watch(which)
  if dispatcher == '' then return 0 end
  call('HINCRBY', base .. 'people:' .. which, dispatcher, '1')
  call('SADD', base .. 'watched:' .. dispatcher, which)
  -- One that has said goodbye, or has not sent a heartbeat yet, is forgotten all the same.
  call('ZADD', base .. 'timers', 'NX', ms(now + DISPATCHER_MS), 'dispatcher:' .. dispatcher)
  call('HINCRBY', base .. 'totals', 'people', '1')
  return 1
end

local function expected_of(mean) return mean or T.mean or 180000 end

-- Said before, and the answer was lost; the image may be another build's by now.
local build, of_image = base .. 'build:' .. id, base .. 'image:' .. image
local again, known = call('EXISTS', build) == 1, call('GET', of_image)
local rule, stats = resolve(lane), stats_of(lane)
if not again and rule.ban and not operate then
  return { 'banned', rule.ban_rule, rule.ban.message or '', rule.ban['until'] and ms(rule.ban['until']) or '' }
end

if again or known then
  --- An image that was asked for lately.
  local function answer(tag, which, b)
    return { tag, which, b.state, ms(b.attempt), ms(b.people), place_of(which), ms(b.expected) }
  end
  if again then return answer('new', id, load(id)) end
  local b = load(known)
  local asked = call('HMGET', base .. 'build:' .. known, 'repo', 'ref', 'args')
  local same = asked[1] == repo and asked[2] == ref and asked[3] == args
  if b.state and is_ended(b.state) then
    if same and not force then return answer('ended', known, b) end
  elseif b.state then
    if not same then return { 'conflict', known, asked[1], asked[2] } end
    b.people = b.people + watch(known)
    b.expected = math.floor(expected_of(stats.mean))
    local fields = { 'people', ms(b.people), 'expected', ms(b.expected) }
    if priority == 'interactive' and b.priority == 'background' then
      b.priority = 'interactive'
      fields[#fields + 1], fields[#fields + 2] = 'priority', 'interactive'
      if b.bg then
        call('HINCRBY', base .. 'totals', 'background', -1)
        T.background = T.background - 1
        fields[#fields + 1], fields[#fields + 2] = 'bg', ''
      end
    end
    if force then fields[#fields + 1], fields[#fields + 2] = 'forced', '1' end
    if b.state == 'queued' and secrets ~= '' then
      -- Fresh ones replace the old; they open under the id of the request that brought them.
      fields[#fields + 1], fields[#fields + 2] = 'secrets', secrets
      fields[#fields + 1], fields[#fields + 2] = 'sealed_for', id
    end
    call('HSET', base .. 'build:' .. known, unpack(fields))
    if b.state == 'queued' then rescore(known, b) end
    wake()
    return answer('joined', known, b)
  end
end

if call('ZCARD', base .. 'queued') >= QUEUED_MAX then return { 'full', 'queue', ms(QUEUED_MAX) } end
local in_lane = base .. 'lane:' .. lane
if call('ZCARD', in_lane) >= LANE_MAX then return { 'full', 'lane', ms(LANE_MAX) } end
local people = watch(id)
local expects = math.floor(expected_of(stats.mean))
local due, expected, crowd = ms(due_of(now, expects, people, priority)), ms(expects), people == 1 and '1' or '0'
call('HSET', build, 'state', 'queued', 'lane', lane, 'repo', repo, 'ref', ref, 'image', image,
  'name', ARGV[7], 'priority', priority, 'args', args, 'push', ARGV[10], 'labels', ARGV[11], 'secrets', secrets,
  'asked', NOW, 'due', due, 'expected', expected, 'people', crowd, 'attempt', '1', 'seq', '1')
if force then call('HSET', build, 'forced', '1') end
call('SET', of_image, id)
call('ZADD', base .. 'queued', due, id)
call('ZADD', in_lane, due, id)
if stats.at then
  came_in(lane, stats.at, id, due)
else
  --- No other build of the lane waits.
  place(lane, stats)
end
tell(id, lane, 'queued', '1')
wake()
return { 'new', id, 'queued', '1', crowd, place_of(id), expected }
