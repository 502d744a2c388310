-- Purpose: requests builds. Each request gets a new build, joins a live one of the same image, or gets a
--   recent outcome. A request that fails does not affect the others of the same call.
-- KEYS[1] {prefix}:schema
-- W: dispatcher or empty
-- items: id of a new build, what is asked for (see spec_fields), secrets sealed or empty, force 0/1, override
--   (who overrides a ban) or empty
-- Returns: {'each': answers: {'new'|'joined'|'ended': id, state, attempt, people, position or '', expected
--   ms} | {'conflict': id, repo, ref} | {'banned': rule, message, until or ''} | {'full': what, max} | {'broken': error}}
--   | {'refilling': left ms}
-- Invariants: I1, I2, I5, I7
local QUEUED_MAX, LANE_MAX, DISPATCHER_MS = 1000000, 10000, 10000
local dispatcher, watched -- the dispatcher of these requests, and the builds that it watches from now on
local queued              -- how many builds are in line
local said_again          -- whether a build of these requests exists already
local making              -- by image, the build that makes it or has made it lately

-- A build's position in line, from 1.
local function position_of(id)
  local rank = call('ZRANK', K.queued, id)
  return rank and ms(rank + 1) or ''
end

-- Counts the requester as one of the people waiting for a build; returns how many there are now.
local function watch(id)
  if dispatcher == '' then return 0 end
  call('HINCRBY', base .. 'people:' .. id, dispatcher, '1')
  watched[#watched + 1] = id
  return 1
end

local function note_watched()
  if not watched[1] then return end
  call('SADD', base .. 'watched:' .. dispatcher, unpack(watched))
  -- Even if the dispatcher has left, or has not sent a heartbeat yet, it must be forgotten in time.
  call('ZADD', K.timers, 'NX', ms(now + DISPATCHER_MS), 'dispatcher:' .. dispatcher)
  count_people(#watched)
end

local function answer(tag, id, b)
  return { tag, 'id', id, 'state', b.state, 'attempt', ms(b.failures + b.stuck + 1), 'people', ms(b.people),
    'position', position_of(id), 'expected', ms(b.expected) }
end

local function join(known, b, asked, stats)
  b.people = b.people + watch(known)
  b.expected = expected_of(stats)
  local fields = { 'people', ms(b.people), 'expected', ms(b.expected) }
  if b.people > b.peak then fields[#fields + 1], fields[#fields + 2] = 'peak', ms(b.people) end
  if asked.priority == 'interactive' and b.priority == 'background' then make_interactive(known, b) end
  if asked.force == '1' then fields[#fields + 1], fields[#fields + 2] = 'forced', '1' end
  if b.state == 'queued' and asked.secrets ~= '' then
    -- New secrets replace the old; they can be opened with the id of the request that brought them.
    fields[#fields + 1], fields[#fields + 2] = 'secrets', asked.secrets
    fields[#fields + 1], fields[#fields + 2] = 'sealed_for', asked.id
  end
  call('HSET', base .. 'build:' .. known, unpack(fields))
  if b.state == 'queued' then rescore(known, b) end
  return answer('joined', known, b)
end

-- Records who overrode a ban, with the rule and the resulting build.
local function note_override(rule, by, lane, id)
  if rule.ban and by ~= '' then audit(by, 'ban overridden', lane, 'rule ' .. rule.ban_rule .. ', build ' .. id) end
end

-- Reads at once what Redis has of all requests.
local function look_up()
  local builds = {}
  for at, asked in ipairs(items) do builds[at] = base .. 'build:' .. asked.id end
  said_again, making = call('EXISTS', unpack(builds)) > 0, {}
  for _, asked in ipairs(items) do making[asked.image] = call('GET', base .. 'image:' .. asked.image) end
end

-- Asks for one build.
local function ask(asked)
  local id, lane, overrides = asked.id, asked.lane, asked.override
  local known = making[asked.image]
  -- A repeated call: the answer was lost. By now the image may belong to another build.
  local again = known == id or said_again and call('EXISTS', base .. 'build:' .. id) == 1
  if again then return answer('new', id, load(id)) end
  local rule, stats = resolve(lane), stats_of(lane)
  if rule.ban and overrides == '' then
    return { 'banned', 'rule', rule.ban_rule, 'message', rule.ban.message or '',
      'until', rule.ban['until'] and ms(rule.ban['until']) or '' }
  end

  if known then
    -- The image was requested recently.
    local b = load(known)
    local same = is_the_same(b, asked)
    if is_whole(b) and is_ended(b.state) then
      if same and asked.force ~= '1' then return answer('ended', known, b) end
    elseif is_whole(b) then
      if not same then return { 'conflict', 'id', known, 'repo', b.repo or '', 'ref', b.ref or '' } end
      note_override(rule, overrides, lane, known)
      return join(known, b, asked, stats)
    end
  end

  queued = queued or call('ZCARD', K.queued)
  if queued >= QUEUED_MAX then return { 'full', 'what', 'queue', 'max', ms(QUEUED_MAX) } end
  -- A lane that is in no set has no queued build.
  if queued >= LANE_MAX and stats.at and call('ZCARD', base .. 'lane:' .. lane) >= LANE_MAX then return { 'full', 'what', 'lane', 'max', ms(LANE_MAX) } end
  note_override(rule, overrides, lane, id)
  local people = watch(id)
  local expected = enter_line(id, asked, stats, people)
  queued, making[asked.image] = queued + 1, id
  return { 'new', 'id', id, 'state', 'queued', 'attempt', '1', 'people', ms(people), 'position', position_of(id),
    'expected', expected }
end

local function new_item()
  return { id = '', more = '', lane = '', image = '', repo = '', ref = '', args = '', priority = '', name = '', push = '',
    labels = '', secrets = '', force = '', override = '', campaign = '' }
end

operation('submit', ADDS, function()
  if T.refill_until > now then return { 'refilling', 'left', ms(T.refill_until - now) } end
  dispatcher, watched, queued = W.dispatcher, {}, nil
  look_up()
  local reply = each_item(ask)
  note_watched()
  wake()
  return reply
end, 'id', new_item)
