-- Purpose: the nodes that are avoided, and why. Reads only.
-- KEYS[1] {prefix}:schema
-- W: nothing
-- Returns: {'nodes': now, nodes: of each its name, cluster, until, since, reason, lanes, probed or ''}
operation('nodes_view', READS, function()
  local avoided = {}
  local page = call('ZREVRANGEBYSCORE', K.nodes, '+inf', '(' .. NOW, 'WITHSCORES', 'LIMIT', 0, NODE_READ)
  for i = 1, #page, 2 do
    local cluster, name = nodes.parts(page[i])
    local v = call('HMGET', base .. 'node:' .. page[i], 'since', 'reason', 'lanes', 'probed')
    avoided[#avoided + 1] = { 'name', name, 'cluster', cluster, 'until', ms(tonumber(page[i + 1])),
      'since', v[1] or '', 'reason', v[2] or '', 'lanes', v[3] or '', 'probed', v[4] or '' }
  end
  return { 'nodes', 'now', NOW, 'nodes', avoided }
end)
