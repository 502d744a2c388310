-- Purpose: an operator has a node used again, its failures forgotten.
-- KEYS[1] {prefix}:schema
-- ARGV[2] node, ARGV[3] its cluster, or empty where only one has an avoided node of that name, ARGV[4] by whom
-- Returns: {'cleared', cluster} | {'unknown'} | {'ambiguous', cluster…}
operation('clear_node', ALWAYS, function()
  local node, wanted, by = ARGV[2], ARGV[3], ARGV[4]
  local entries, clusters = {}, {}
  for _, entry in ipairs(call('ZREVRANGEBYSCORE', K.nodes, '+inf', '(' .. NOW, 'LIMIT', 0, NODE_READ)) do
    local cluster, name = nodes.parts(entry)
    if name == node and (wanted == '' or wanted == cluster) then
      entries[#entries + 1], clusters[#clusters + 1] = entry, cluster
    end
  end
  if not entries[1] then return { 'unknown' } end
  if entries[2] then return { 'ambiguous', unpack(clusters) } end
  nodes.take_back(entries[1])
  call('DEL', base .. 'node-failures:' .. entries[1])
  audit(by, 'node cleared', entries[1], '')
  wake()
  return { 'cleared', clusters[1] }
end)
