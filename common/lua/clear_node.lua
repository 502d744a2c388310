-- Purpose: an operator has a node used again, its failures forgotten.
-- KEYS[1] {prefix}:schema
-- ARGV[2] node, ARGV[3] by whom
-- Returns: {'cleared'} | {'unknown'}
operation('clear_node', ALWAYS, function()
  local node, by = ARGV[2], ARGV[3]
  if not call('ZSCORE', K.nodes, node) then return { 'unknown' } end
  nodes.take_back(node)
  call('DEL', base .. 'node-failures:' .. node)
  audit(by, 'node cleared', node, '')
  wake()
  return { 'cleared' }
end)
