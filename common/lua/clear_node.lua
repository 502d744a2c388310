-- Purpose: an operator puts a node back into use; its failures are forgotten.
-- KEYS[1] {prefix}:schema
-- W: node, its cluster (may be empty if only one cluster has an avoided node of that name), by whom, because (why, for the audit) or absent
-- Returns: {'cleared': cluster} | {'unknown'} | {'ambiguous': clusters}
operation('clear_node', ALWAYS, function()
  local node, wanted, by = W.node, W.cluster, W.by
  local entries, clusters = {}, {}
  for _, entry in ipairs(call('ZREVRANGEBYSCORE', K.nodes, '+inf', '(' .. NOW, 'LIMIT', 0, NODE_READ)) do
    local cluster, name = nodes.parts(entry)
    if name == node and (wanted == '' or wanted == cluster) then
      entries[#entries + 1], clusters[#clusters + 1] = entry, cluster
    end
  end
  if not entries[1] then return { 'unknown' } end
  if entries[2] then return { 'ambiguous', 'clusters', clusters } end
  nodes.take_back(entries[1])
  call('DEL', base .. 'node-failures:' .. entries[1])
  audit(by, 'node cleared', entries[1], '')
  wake()
  return { 'cleared', 'cluster', clusters[1] }
end)
