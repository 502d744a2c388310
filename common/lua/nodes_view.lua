-- Purpose: the nodes that are avoided, and why. Reads only.
-- KEYS[1] {prefix}:schema
-- ARGV: none
-- Returns: {'nodes', now, (node, cluster, until, since, reason, lanes, probed or '')…}
operation('nodes_view', READS, function()
  local reply = { 'nodes', NOW }
  local page = call('ZREVRANGEBYSCORE', K.nodes, '+inf', '(' .. NOW, 'WITHSCORES', 'LIMIT', 0, NODE_READ)
  for i = 1, #page, 2 do
    local cluster, name = nodes.parts(page[i])
    local v = call('HMGET', base .. 'node:' .. page[i], 'since', 'reason', 'lanes', 'probed')
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = name, cluster, ms(tonumber(page[i + 1]))
    for field = 1, 4 do reply[#reply + 1] = v[field] or '' end
  end
  return reply
end)
