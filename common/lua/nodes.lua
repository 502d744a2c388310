-- Purpose: which nodes builds had better not go to, and why.
--   Builds on ends.lua.

local NODE_LANES = 3            -- so many lanes must fail on a node: one repository alone proves nothing
local NODE_WINDOW_MS = 600000   -- within this time
local NODE_AVOID_MS = 1800000   -- then it is avoided for so long
local NODE_KEEP_MS = 3600000    -- failures are kept: a suspect is cleared up only when its retry ends
local NODE_READ = 200           -- most nodes, or failures of one, read by a call
local PROBE_MS = 60000          -- a cluster's only node gets one build in this time

local nodes = {}

-- The cluster of a place: its namespaces share its nodes.
local function cluster_of(where) return string.match(where or '', '^(.*)/') or where or '' end

-- How many nodes the worker's cluster has; 0 where it does not know.
function nodes.known(worker) return tonumber(call('HGET', base .. 'worker:' .. worker, 'nodes')) or 0 end

-- How many of them may be avoided at once: a third, one where that is less than one. The only one is
-- probed instead; of those that are not known none is avoided.
local function avoidable(known) return known > 0 and max(1, floor(known / 3)) or 0 end

-- The nodes of a place's cluster that are avoided, those first that will be longest.
function nodes.avoided_at(where)
  local found, cluster = {}, cluster_of(where)
  if T.avoided == 0 then return found end
  for _, node in ipairs(call('ZREVRANGEBYSCORE', K.nodes, '+inf', '(' .. NOW, 'LIMIT', 0, NODE_READ)) do
    if call('HGET', base .. 'node:' .. node, 'cluster') == cluster then found[#found + 1] = node end
  end
  return found
end

-- What a worker goes by whose place has so many nodes: those to avoid; or the only one, which is to
-- be probed, and when that may be done next.
function nodes.to_avoid(where, known)
  local found = nodes.avoided_at(where)
  if known == 1 and found[1] then
    local probed = tonumber(call('HGET', base .. 'node:' .. found[1], 'probed')) or 0
    return {}, found[1], probed + PROBE_MS
  end
  -- Nodes may have left the cluster since.
  while known > 0 and #found > avoidable(known) do found[#found] = nil end
  return found
end

local function count_avoided(by)
  T.avoided = T.avoided + by
  call('HINCRBY', K.totals, 'avoided', by)
end

-- Takes a node back among those that builds go to.
function nodes.take_back(node)
  if call('ZREM', K.nodes, node) == 1 then count_avoided(-1) end
  call('ZREM', K.timers, 'node:' .. node)
  call('DEL', base .. 'node:' .. node)
end

-- Whether enough lanes failed close to each other; `scores` are lane, when, lane, when… in order.
local function crowded(scores)
  local span = 2 * (NODE_LANES - 1)
  for i = 2, #scores - span, 2 do
    if tonumber(scores[i + span]) - tonumber(scores[i]) <= NODE_WINDOW_MS then return true end
  end
  return false
end

-- Counts a failure of a lane, at that time, against a node of a place with so many nodes.
function nodes.count_failure(node, where, known, lane, at, reason)
  local failures = base .. 'node-failures:' .. node
  call('ZREMRANGEBYSCORE', failures, '-inf', ms(now - NODE_KEEP_MS))
  call('ZADD', failures, 'GT', ms(at), lane)
  call('EXPIRE', failures, NODE_KEEP_MS / 1000)
  local already = (tonumber(call('ZSCORE', K.nodes, node)) or 0) > now
  local near = call('ZRANGEBYSCORE', failures, ms(at - NODE_WINDOW_MS), ms(at + NODE_WINDOW_MS),
    'WITHSCORES', 'LIMIT', 0, NODE_READ)
  if not already and not (crowded(near) and #nodes.avoided_at(where) < avoidable(known)) then return end
  local key, over = base .. 'node:' .. node, ms(now + NODE_AVOID_MS)
  if call('ZADD', K.nodes, over, node) == 1 then count_avoided(1) end
  call('ZADD', K.timers, over, 'node:' .. node)
  call('HSET', key, 'cluster', cluster_of(where), 'reason', reason, 'lanes', ms(#near / 2))
  if not already then
    call('HSET', key, 'since', NOW)
    audit('fairlane', 'node avoided', node, reason)
  end
end

-- Nodes on which earlier runs of a build failed of words in their logs alone, by what they failed of.
local function suspects(id)
  local v = call('HMGET', base .. 'build:' .. id, 'suspects', 'place')
  return v[1] and v[1] ~= '' and cjson.decode(v[1]) or {}, v[2]
end

-- A build has succeeded on a node: what it failed of elsewhere was the fault of the nodes there.
function nodes.clear_up(id, lane, node, worker)
  local known, list, where = nodes.known(worker), suspects(id)
  for _, one in pairs(list) do
    local elsewhere = one.node ~= '' and one.node ~= node
    if elsewhere then nodes.count_failure(one.node, where, known, lane, one.at, one.reason) end
  end
  if known == 1 and nodes.avoided_at(where)[1] == node then
    nodes.take_back(node)
    audit('fairlane', 'node taken back', node, 'a build succeeded on it')
  end
end

-- Whom a failure on a node is put down to: what is to be kept with the build when it is tried again,
-- the class and the reason.
function nodes.blame(id, b, node, worker, how, cause, class, reason)
  local kept, known = {}, nodes.known(worker)
  local function is_bad(name) return T.avoided > 0 and call('ZSCORE', K.nodes, name) end
  if how == 'certain' then
    nodes.count_failure(node, b.place, known, b.lane, now, reason)
  else
    local list = suspects(id)
    local first = list[cause]
    if not first then
      list[cause] = { node = node, at = now, reason = reason }
      kept = { 'suspects', cjson.encode(list) }
      if how == 'unclear' then reason = reason .. '; the build is tried once more' end
    elseif how == 'unclear' then
      return kept, 'repository', reason .. '; it was the same twice: put down to the repository'
    elseif first.node ~= node and not is_bad(node) and not is_bad(first.node) then
      -- Two nodes, one cause: it is what they have in common.
      return kept, 'repository', reason .. ' (as before on node ' .. first.node .. ': put down to the repository)'
    end
  end
  if node == '' then return kept, class, reason end
  local avoid, fresh = b.avoid and cjson.decode(b.avoid) or {}, true
  for _, name in ipairs(avoid) do fresh = fresh and name ~= node end
  if fresh then avoid[#avoid + 1] = node end
  -- One node must be left to go to.
  while known > 0 and #avoid >= known do table.remove(avoid, 1) end
  kept[#kept + 1], kept[#kept + 2] = 'avoid', #avoid > 0 and cjson.encode(avoid) or ''
  return kept, class, reason
end
