-- Replaces a counter by one of a later epoch, with what was counted elsewhere.
-- KEYS: the counter. ARGV: epoch, width of a slot in ms, slots kept, now in ms (0: Redis' clock), then age in slots and count, in turn.
local key, width, kept = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local former = redis.call('HGET', key, 'e')
if former and tonumber(former) >= tonumber(ARGV[1]) then return 0 end
local now = tonumber(ARGV[4])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function int(x) return string.format('%.0f', x) end
local slot, total, oldest = math.floor(now / width), 0, nil
redis.call('DEL', key)
for i = 5, #ARGV, 2 do
  local age, count = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if age < kept then
    redis.call('HINCRBY', key, int((slot - age) % kept), count)
    total = total + count
    if not oldest or slot - age < oldest then oldest = slot - age end
  end
end
redis.call('HSET', key, 'h', int(slot), 't', int(total), 'o', int(oldest or slot), 'e', ARGV[1])
redis.call('PEXPIRE', key, int((kept + 1) * width))
return 1
