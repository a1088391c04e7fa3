-- Takes back n of what was counted in a slot, if the counter is still the one that it was counted in.
-- KEYS: the counter. ARGV: n, slots kept, slot, epoch.
local key, n, kept, slot = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local has = redis.call('HMGET', key, 'h', 'e')
if not has[1] or (has[2] or '0') ~= ARGV[4] or tonumber(has[1]) - slot >= kept then return 0 end
local field = string.format('%.0f', slot % kept)
n = math.min(n, tonumber(redis.call('HGET', key, field) or '0'))
if n > 0 then
  redis.call('HINCRBY', key, field, -n)
  redis.call('HINCRBY', key, 't', -n)
end
return n
