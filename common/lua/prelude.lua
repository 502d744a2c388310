-- Purpose: what every operation of the queue shares: the clock, the gate, reading a build, publishing
--   changes. The library is this file, lanes.lua, history.lua, ends.lua, nodes.lua, heal.lua, enter.lua and
--   campaigns.lua, then one file for each operation. Redis compiles it once; begin() resets what belongs to one
--   call.
local format, floor, min, max
local call                   -- this call's way to Redis
local W, items               -- this call's arguments by name, and those of each item of its list
local LIBRARY = 'fairlane' .. SUFFIX -- this library
local schema_key, base       -- {prefix}:schema, and what all keys begin with
local K                      -- the keys that exist once per queue, by name
local now, NOW               -- this call's time in Unix ms, as a number and as text
local T = {}                 -- totals and policy, read on first use
local resolved, unruled      -- the rules that this call has read, see resolve()
local in_line                -- how many builds of people are queued, if this call has counted them

local people_came, tallied   -- by how much this call changes the total of people, and how often it saw each event

local BACKGROUND = 1e12          -- ms; puts background builds behind all interactive ones
local MEAN_UNKNOWN = 180000      -- ms; how long a build takes, while no duration is known
local KEEP_S = 86400             -- how long ended builds stay
local HOUR = 3600000
local ADOPTIONS_MAX = 5          -- a run lost more often within an hour must be killing its workers
local STATS_KEEP_S = '15552000'  -- 180 days: how long a lane's durations stay after its latest build

-- Numbers leave Lua as text: tostring gives 1.764e+12, and replies cut numbers to integers.
-- (%d is a 64-bit integer here, as in Redis itself; it takes half as long as %.0f. Do not convert what is
-- text already: this takes as long as a small command.)
local function ms(number) return format('%d', number) end

-- The first use of a field of T loads it together with related ones. (T is one table for all calls: filling a
-- new one takes Redis as long as some commands.)
local lazily = {
  __index = function(_, name)
    if name == 'order' or name == 'overtake_max' or name == 'people_max' or name == 'refill_until'
      or name == 'mean' or name == 'slots' or name == 'push_limit' or name == 'push_limits' then
      local v = call('HMGET', K.totals, 'order', 'overtake_max', 'people_max', 'refill_until', 'mean', 'slots',
        'campaigns', 'push_limit', 'push_limits')
      T.order = v[1] or 'fair'
      T.overtake_max = tonumber(v[2]) or 4 * HOUR
      T.people_max = tonumber(v[3]) or 200
      T.refill_until = tonumber(v[4]) or 0
      T.mean = tonumber(v[5]) or false
      T.slots = tonumber(v[6]) or 0
      T.campaigns = tonumber(v[7]) or 0 -- how many need the attention of feed.lua
      T.push_limit = tonumber(v[8]) or false
      T.push_limits = v[9] or '' -- those of single registries, as JSON
    else
      local v = call('HMGET', K.totals, 'slots', 'background', 'limit', 'burst', 'slow_after', 'slow_limit',
        'mean', 'mean_of', 'avoided', 'refill_until', 'background_share', 'campaigns')
      local slots = tonumber(v[1]) or 0
      T.slots = slots
      T.background = tonumber(v[2]) or 0
      local share = tonumber(v[11]) or 3 / 4
      T.background_share = share
      T.background_max = share > 0 and max(1, floor(slots * share)) or 0
      T.limit = tonumber(v[3]) or (slots < 4 and 1 or 2)
      T.burst = max(tonumber(v[4]) or 3, T.limit)
      T.slow_after = tonumber(v[5]) or HOUR
      -- With more of a large cluster, a handful of slow repositories would hold most of it.
      T.slow_limit = tonumber(v[6]) or max(1, min(floor(slots / 2), max(2, math.ceil(slots / 4))))
      T.mean = tonumber(v[7]) or false
      T.mean_of = tonumber(v[8]) or 0
      T.avoided = tonumber(v[9]) or 0 -- how many nodes are avoided
      T.refill_until = tonumber(v[10]) or 0
      T.campaigns = tonumber(v[12]) or 0
    end
    return rawget(T, name)
  end,
}

-- Makes T load again.
local function forget_totals()
  T.order, T.overtake_max, T.people_max, T.refill_until, T.mean = nil, nil, nil, nil, nil
  T.push_limit, T.push_limits = nil, nil
  T.slots, T.background, T.background_max, T.limit, T.burst = nil, nil, nil, nil, nil
  T.slow_after, T.slow_limit, T.mean_of, T.avoided, T.background_share, T.campaigns = nil, nil, nil, nil, nil, nil
end

local function keys_under(prefix)
  return setmetatable({}, {
    __index = function(keys, name)
      local key = prefix .. name
      keys[name] = key
      return key
    end,
  })
end

-- A missing argument reads as empty.
local lacking = { __index = function() return '' end }

local function empty_item() return setmetatable({}, lacking) end

-- Reads a list of which the names of its items' fields are said once: `names`, separated by spaces. From index `from`,
-- each item is one value for each name.
local function read_rows(args, names, from, new_item)
  local columns, count = {}, 0
  for name in string.gmatch(names, '%S+') do
    count = count + 1
    columns[count] = name
  end
  for row = from, #args, count do
    local item = new_item()
    for column = 1, count do item[columns[column]] = args[row + column - 1] end
    items[#items + 1] = item
  end
end

-- Reads the arguments of a call, from index `from`: names and values. In its list, if it has one, each item
-- begins with the name `first`; a longer list comes as `items` (see read_rows). (`new_item` makes the table of one: a
-- table that has room for all its fields from the start costs much less than one that grows.)
local function read_words(args, from, first, new_item)
  W, items, new_item = setmetatable({}, lacking), {}, new_item or empty_item
  local into, count = W, 0
  for at = from, #args, 2 do
    local name = args[at]
    if name == 'items' then return read_rows(args, args[at + 1], at + 2, new_item) end
    if name == first then
      into, count = new_item(), count + 1
      items[count] = into
    end
    into[name] = args[at + 1]
  end
end

-- A library's locals keep their values between calls, so each call starts here.
local function begin(keys, args, first, new_item)
  if not call then
    -- While the library loads, nothing can be called yet, not even Lua's own functions.
    call, format, floor, min, max = redis.call, string.format, math.floor, math.min, math.max
    setmetatable(T, lazily)
  end
  read_words(args, 2, first, new_item)
  if keys[1] ~= schema_key then
    schema_key = keys[1]
    base = string.sub(schema_key, 1, -7)
    K = keys_under(base)
  end
  if args[1] == '' then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  else
    now = tonumber(args[1])
  end
  NOW = ms(now)
  forget_totals()
  resolved, unruled, in_line = {}, nil, nil
  people_came, tallied = 0, {}
end

-- Writes the counters of this call: once at its end, and before anything reads them.
local function settle()
  if people_came ~= 0 then call('HINCRBY', K.totals, 'people', ms(people_came)) end
  -- A counter that somebody has overwritten with text costs counts, not builds.
  for event, times in pairs(tallied) do redis.pcall('HINCRBY', K.counts, event, ms(times)) end
  people_came, tallied = 0, {}
end

-- What keeps an operation from running at all, or nil.
local function gate(time)
  local schema = call('GET', schema_key)
  if not schema then return { 'emptied' } end
  if string.match(schema, '^(%d+)%.') ~= '1' then return { 'schema', 'found', schema } end
  if time ~= '' and call('EXISTS', K.simulation) == 0 then
    return redis.error_reply('ERR a time was given to a queue that is not simulated')
  end
end

-- What an operation may do when Redis is out of memory: end things, but not add any.
local ALWAYS, ADDS, READS = { 'allow-oom' }, {}, { 'no-writes' }

-- If the library runs as a script, the operation that is WANTED is here.
local scripted, scripted_flags

local function register(name, flags, run)
  if redis.register_function then
    redis.register_function({ function_name = 'fairlane_' .. name .. SUFFIX, flags = flags, callback = run })
  elseif name == WANTED then
    scripted, scripted_flags = run, flags
  end
end

-- An operation on the queue.
-- KEYS[1] {prefix}:schema. All other keys carry the same hash tag and are computed from it.
-- ARGV[1] time in Unix ms for a simulated queue, empty for Redis's own clock; then names and values in any
--   order, which become W. A list comes last, each item beginning with the name `first`; the items become
--   `items`, each from `new_item` if given.
-- Returns: what `run` returns, or {'emptied'} | {'schema': found}. After the tag come names and values.
local function operation(name, flags, run, first, new_item)
  register(name, flags, function(keys, args)
    begin(keys, args, first, new_item)
    local no = gate(args[1])
    if no then return no end
    local done, reply = pcall(run)
    settle()
    if not done then error(reply, 0) end
    return reply
  end)
end

-- A list in a reply as one text: each value of a list costs Redis as much as a small command.
local function packed(list) return cjson.encode(list) end

-- Answers each item of a call on its own: one that fails does not affect the others.
local function each_item(answer)
  local answers = {}
  for at, item in ipairs(items) do
    local done, result = pcall(answer, item)
    if not done then result = { 'broken', 'error', type(result) == 'table' and result.err or tostring(result) } end
    answers[at] = packed(result)
  end
  return { 'each', 'answers', answers }
end

local function is_ended(state) return state == 'succeeded' or state == 'failed' or state == 'cancelled' end

-- A build's fields, all of them; those that are missing or empty are false (`emptied`: whether any is empty), counters
-- are numbers. (One HGETALL costs less than an HMGET of a dozen fields, which looks through the hash for each.)
local function load(id)
  local b = {
    state = false, epoch = false, worker = false, lane = false, image = false, repo = false, ref = false, args = false,
    seq = false, people = false, peak = false, attempt = false, due = false, priority = false, asked = false,
    expected = false, claimed = false, started = false, place = false, shared = false, bg = false, pushing = false,
    slot_ms = false, failures = false, stuck = false, not_before = false, note = false, secrets = false,
    cancelling = false, class = false, reason = false, node = false,
  }
  local fields = call('HGETALL', base .. 'build:' .. id)
  for i = 1, #fields, 2 do
    local value = fields[i + 1]
    if value ~= '' then b[fields[i]] = value else b.emptied = true end
  end
  b.seq, b.people, b.attempt = tonumber(b.seq) or 0, tonumber(b.people) or 0, tonumber(b.attempt) or 1
  b.peak, b.asked, b.expected = tonumber(b.peak) or 0, tonumber(b.asked) or 0, tonumber(b.expected) or 0
  b.failures, b.stuck, b.slot_ms = tonumber(b.failures) or 0, tonumber(b.stuck) or 0, tonumber(b.slot_ms) or 0
  b.adoptions, b.adoptions_since = tonumber(b.adoptions) or 0, tonumber(b.adoptions_since) or 0
  return b
end

-- A request as fields of a build. `more` is everything else, as JSON.
local SPEC = { 'lane', 'image', 'repo', 'ref', 'args', 'priority', 'name', 'push', 'labels', 'more' }
local function spec_fields(asked)
  local fields = {}
  for _, name in ipairs(SPEC) do
    if asked[name] ~= '' then fields[#fields + 1], fields[#fields + 2] = name, asked[name] end
  end
  return fields
end

-- Whether a build makes its image from the requested repo and ref.
local function is_the_same(b, asked)
  return b.repo == asked.repo and b.ref == asked.ref and b.args == asked.args
end

-- The value of a field in a list of names and values.
local function among(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

-- Whether (epoch, worker) is the build's token.
local function holds(b, epoch, worker)
  return (b.state == 'starting' or b.state == 'running' or b.state == 'orphaned')
    and b.epoch == epoch and b.worker == worker
end

-- The number of a build's next change.
local function next_seq(b)
  b.seq = b.seq + 1
  return ms(b.seq)
end

-- Publishes a build's new state: who caused it, the node if the call names one (W.node), and for a failure its class,
-- reason and cause. All entries have the
-- same fields, so that the stream stores their names once.
local function tell(id, lane, state, seq, worker, class, reason, cause)
  local EVENTS_MAX = '50000' -- as text, because passing a number to Redis takes longer
  call('XADD', K.events, 'MAXLEN', '~', EVENTS_MAX, '*', 'build', id, 'lane', lane, 'state', state, 'seq', seq,
    'worker', worker or '', 'class', class or '', 'reason', reason and string.sub(reason, 1, 200) or '', 'cause', cause or '',
    'node', W.node)
end

-- Whether a build's record has everything the queue needs: it may have been deleted by hand or evicted, or be
-- incomplete.
local function is_whole(b) return b.state and b.lane and b.image end

-- Records an act; W.because is the operator's reason.
local function audit(by, act, what, detail)
  local AUDIT_MAX = '100000'
  call('XADD', K.audit, 'MAXLEN', '~', AUDIT_MAX, '*',
    'at', NOW, 'by', by, 'act', act, 'what', what, 'detail', detail, 'reason', W.because)
end

