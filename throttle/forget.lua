-- Drops a counter, if it is still of this epoch. KEYS: the counter. ARGV: epoch.
if redis.call('HGET', KEYS[1], 'e') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
