-- Purpose: which nodes builds should avoid, and why. A node is identified by cluster and name, because
--   clusters that share a Redis can have nodes with the same name. The hosts of process workers are the nodes
--   of one cluster.
--   Builds on ends.lua.

local NODE_LANES = 3            -- how many lanes must fail on a node: one repository alone proves nothing
local NODE_WINDOW_MS = 600000   -- within this time
local NODE_AVOID_MS = 1800000   -- then it is avoided for this long
local NODE_KEEP_MS = 3600000    -- how long failures are kept: a suspect is judged after its retry
local NODE_READ = 200           -- most nodes, workers, or failures of one, read by a call
local PROBE_MS = 60000          -- a cluster's only node gets one build in this time
local ELSEWHERE_MS = 60000      -- how long a build that failed on a host is kept for other hosts
local HOSTS = 'process'         -- the cluster of process workers' hosts

local nodes = {}

-- The cluster of a place: its namespaces share its nodes.
function nodes.cluster_of(where)
  if is_process(where) then return HOSTS end
  return string.match(where or '', '^(.*)/') or where or ''
end

-- Splits an entry of `nodes` into cluster and name. An earlier release stored only the name.
function nodes.parts(entry)
  local cluster, name = string.match(entry, '^(.+)/([^/]+)$')
  if cluster then return cluster, name end
  return call('HGET', base .. 'node:' .. entry, 'cluster') or '', entry
end

-- A node's entry in `nodes`.
local function entry_of(cluster, node)
  local of_earlier = T.avoided > 0 and call('ZSCORE', K.nodes, node)
  if of_earlier and call('HGET', base .. 'node:' .. node, 'cluster') == cluster then return node end
  return cluster .. '/' .. node
end

local function is_avoided(cluster, node)
  return T.avoided > 0 and (tonumber(call('ZSCORE', K.nodes, entry_of(cluster, node))) or 0) > now
end

-- Hosts whose process workers claim builds, and how many they are.
local function live_hosts()
  local hosts, count = {}, 0
  for _, id in ipairs(call('ZRANGE', K.workers, 0, NODE_READ - 1)) do
    local v = call('HMGET', base .. 'worker:' .. id, 'host', 'place', 'drain', 'draining', 'paused')
    local claims = v[1] and is_process(v[2]) and v[3] ~= '1' and v[4] ~= '1' and (v[5] or '') == ''
    if claims and not hosts[v[1]] then hosts[v[1]], count = true, count + 1 end
  end
  return hosts, count
end

-- How many nodes a cluster has, as far as its workers know; 0 if they do not know.
local function known_at(cluster)
  if cluster == HOSTS then return select(2, live_hosts()) end
  local most = 0
  for _, id in ipairs(call('ZRANGE', K.workers, 0, NODE_READ - 1)) do
    local v = call('HMGET', base .. 'worker:' .. id, 'place', 'nodes')
    if nodes.cluster_of(v[1]) == cluster then most = max(most, tonumber(v[2]) or 0) end
  end
  return most
end

-- How many of them may be avoided at once: a third, but at least one. A cluster's only node is probed
-- instead; if the number of nodes is unknown, none is avoided.
local function avoidable(known) return known > 0 and max(1, floor(known / 3)) or 0 end

-- The avoided nodes of a cluster, longest remaining first: their entries in `nodes`, as a list and by name.
local function avoided_in(cluster)
  local found, names = {}, {}
  if T.avoided == 0 then return found, names end
  for _, entry in ipairs(call('ZREVRANGEBYSCORE', K.nodes, '+inf', '(' .. NOW, 'LIMIT', 0, NODE_READ)) do
    local of, name = nodes.parts(entry)
    if of == cluster then found[#found + 1], names[#names + 1] = entry, name end
  end
  return found, names
end

-- What a worker needs to know, given how many nodes its place has: the names of nodes to avoid; or the entry
-- of the only node, if that is being probed, and when it may be probed next.
function nodes.to_avoid(where, known)
  local cluster = nodes.cluster_of(where)
  local found, names = avoided_in(cluster)
  if cluster == HOSTS and found[1] then
    local hosts
    hosts, known = live_hosts()
    for i = #found, 1, -1 do
      if not hosts[names[i]] then
        table.remove(found, i)
        table.remove(names, i)
      end
    end
  end
  if known == 1 and found[1] then
    local probed = tonumber(call('HGET', base .. 'node:' .. found[1], 'probed')) or 0
    return {}, found[1], probed + PROBE_MS
  end
  -- Nodes may have left the cluster since.
  while known > 0 and #names > avoidable(known) do names[#names] = nil end
  return names
end

-- The same for any worker; the first result is whether its host is avoided. A process worker gets no host
-- names. If you call this for many workers, pass a table as a cache, so that each cluster is looked up once.
function nodes.for_worker(where, known, host, looked_up)
  if T.avoided == 0 then return false, {}, nil, 0 end
  local cluster = nodes.cluster_of(where) .. ' ' .. ms(known)
  local found = looked_up and looked_up[cluster] or { nodes.to_avoid(where, known) }
  if looked_up then looked_up[cluster] = found end
  local names, only, probe_at = unpack(found, 1, 3)
  if not is_process(where) then return false, names, only, probe_at end
  for _, name in ipairs(names) do
    if name == host then return true, {}, nil, 0 end
  end
  return false, {}, only, probe_at
end

-- Whether a build that failed on these nodes (as text) should wait for another host, because one claims
-- builds.
function nodes.is_for_others(failed_on, host)
  local failed = {}
  for _, entry in ipairs(cjson.decode(failed_on)) do failed[entry] = true end
  if not failed[HOSTS .. '/' .. host] then return false end
  for _, id in ipairs(call('ZRANGE', K.workers, 0, NODE_READ - 1)) do
    local v = call('HMGET', base .. 'worker:' .. id, 'host', 'place', 'drain', 'draining', 'paused')
    if v[1] and v[3] ~= '1' and v[4] ~= '1' and (v[5] or '') == '' then
      local fails = is_process(v[2]) and (failed[HOSTS .. '/' .. v[1]] or is_avoided(HOSTS, v[1]))
      if not fails then return true end
    end
  end
  return false
end

local function count_avoided(by)
  T.avoided = T.avoided + by
  call('HINCRBY', K.totals, 'avoided', by)
end

-- Puts a node back into use.
function nodes.take_back(entry)
  if call('ZREM', K.nodes, entry) == 1 then count_avoided(-1) end
  call('ZREM', K.timers, 'node:' .. entry)
  call('DEL', base .. 'node:' .. entry)
end

-- Whether enough lanes failed close together; `scores` alternates lane and time, in order.
local function crowded(scores)
  local span = 2 * (NODE_LANES - 1)
  for i = 2, #scores - span, 2 do
    if tonumber(scores[i + span]) - tonumber(scores[i]) <= NODE_WINDOW_MS then return true end
  end
  return false
end

-- Counts a failure of a lane, at that time, against a node.
local function count_failure(cluster, node, lane, at, reason)
  local entry = entry_of(cluster, node)
  local failures = base .. 'node-failures:' .. entry
  call('ZREMRANGEBYSCORE', failures, '-inf', ms(now - NODE_KEEP_MS))
  call('ZADD', failures, 'GT', ms(at), lane)
  call('EXPIRE', failures, NODE_KEEP_MS / 1000)
  local already = (tonumber(call('ZSCORE', K.nodes, entry)) or 0) > now
  local near = call('ZRANGEBYSCORE', failures, ms(at - NODE_WINDOW_MS), ms(at + NODE_WINDOW_MS),
    'WITHSCORES', 'LIMIT', 0, NODE_READ)
  if not already and not (crowded(near) and #avoided_in(cluster) < avoidable(known_at(cluster))) then return end
  local key, over = base .. 'node:' .. entry, ms(now + NODE_AVOID_MS)
  if call('ZADD', K.nodes, over, entry) == 1 then count_avoided(1) end
  call('ZADD', K.timers, over, 'node:' .. entry)
  -- Not named `cluster`: an earlier release would read the whole entry as a node's name.
  call('HSET', key, 'of', cluster, 'reason', reason, 'lanes', ms(#near / 2))
  if not already then
    call('HSET', key, 'since', NOW)
    audit('fairlane', 'node avoided', entry, reason)
  end
end

-- Nodes on which earlier runs of a build failed, judging by their logs alone; by cause.
local function suspects(id)
  local v = call('HMGET', base .. 'build:' .. id, 'suspects', 'place')
  return v[1] and v[1] ~= '' and cjson.decode(v[1]) or {}, v[2]
end

-- A build has succeeded on a node, so its earlier failures elsewhere were the fault of those nodes.
function nodes.clear_up(id, lane, node)
  local list, where = suspects(id)
  local cluster = nodes.cluster_of(where)
  for _, one in pairs(list) do
    local of = one.of or cluster
    local elsewhere = one.node ~= '' and (one.node ~= node or of ~= cluster)
    if elsewhere then count_failure(of, one.node, lane, one.at, one.reason) end
  end
  if T.avoided == 0 then return end
  local entry = entry_of(cluster, node)
  if call('ZSCORE', K.nodes, entry) and known_at(cluster) == 1 then
    nodes.take_back(entry)
    audit('fairlane', 'node taken back', entry, 'a build succeeded on it')
  end
end

-- The fields that record, for a retry, that a build failed on a node.
local function note_failure(b, cluster, entry, kept)
  local failed, others, of_cluster = b.failed_on and cjson.decode(b.failed_on) or {}, {}, {}
  for _, one in ipairs(failed) do
    local list = nodes.parts(one) == cluster and of_cluster or others
    if one ~= entry then list[#list + 1] = one end
  end
  of_cluster[#of_cluster + 1] = entry
  -- One node must be left for the build.
  local known = known_at(cluster)
  while known > 0 and #of_cluster >= known do table.remove(of_cluster, 1) end
  for _, one in ipairs(of_cluster) do others[#others + 1] = one end
  kept[#kept + 1], kept[#kept + 2] = 'failed_on', #others > 0 and cjson.encode(others) or ''
  -- A pod's node is chosen when it starts, a process's by who claims it.
  if cluster == HOSTS then kept[#kept + 1], kept[#kept + 2] = 'elsewhere', ms(now + ELSEWHERE_MS) end
end

-- What to blame for a failure on a node (`how`: certain, suspect, machine, unclear or empty). Returns the
-- fields to keep with the build for a retry, the class and the reason.
function nodes.blame(id, b, node, how, cause, class, reason)
  local kept, cluster = {}, nodes.cluster_of(b.place)
  -- A run that hung is tried again elsewhere, though nothing speaks against its node.
  if how == '' and cluster ~= HOSTS and class ~= 'stuck' then return kept, class, reason end
  if how == 'certain' then
    count_failure(cluster, node, b.lane, now, reason)
  elseif how ~= '' then
    local list = suspects(id)
    -- A repository cannot cause this, so each node is to blame by itself.
    local key = how == 'machine' and cause .. ' on ' .. cluster .. '/' .. node or cause
    local first = list[key]
    if not first then
      list[key] = { node = node, of = cluster, at = now, reason = reason }
      kept = { 'suspects', cjson.encode(list) }
      if how == 'unclear' then reason = reason .. '; the build is retried once' end
    elseif how == 'unclear' then
      return kept, 'repository', reason .. '; it failed the same way twice, so this counts as the repository\'s failure'
    else
      local of = first.of or cluster
      local elsewhere = first.node ~= node or of ~= cluster
      if elsewhere and not is_avoided(cluster, node) and not is_avoided(of, first.node) then
        -- Two nodes failed for the same cause, so it is what they share: the repository.
        local what = of == HOSTS and 'host ' or 'node '
        return kept, 'repository', reason .. ' (as before on ' .. what .. first.node .. ': counts as the repository\'s failure)'
      end
    end
  end
  if node ~= '' then note_failure(b, cluster, cluster .. '/' .. node, kept) end
  return kept, class, reason
end
