-- Counts n more, if they fit: limits.Counter.Take in Redis. With n = 0 it only looks.
-- KEYS: the counter. ARGV: n, limit, width of a slot in ms, slots kept, strict (1: only if the counter is there), now in ms (0: Redis' clock).
-- The counter is a hash: h the latest slot, t the total, o the oldest slot that may hold something, e its epoch, and the
-- slots by their number modulo those kept.
-- Returns allowed, total, ms to wait, ms until some comes back, slot, epoch; or -1 for a counter that is not there.
local key = KEYS[1]
local n, limit, width, kept, strict = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local now = tonumber(ARGV[6])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function int(x) return string.format('%.0f', x) end

local has = redis.call('HMGET', key, 'h', 't', 'o', 'e')
local epoch = has[4] or '0'
if not has[1] and strict then return {-1} end
local slot = math.floor(now / width)
local head, total, oldest = tonumber(has[1] or slot), tonumber(has[2] or 0), tonumber(has[3] or slot)
local first = slot - kept + 1
if has[1] and slot > head then
  if first > head then
    redis.call('DEL', key)
    redis.call('HSET', key, 'e', epoch)
    total = 0
  else
    for i = oldest, first - 1 do
      local count = redis.call('HGET', key, int(i % kept))
      if count then
        total = total - tonumber(count)
        redis.call('HDEL', key, int(i % kept))
      end
    end
  end
end
local moved = not has[1] or slot > head
if slot < head then slot = head; first = slot - kept + 1 end
if oldest < first then oldest = first end

local fits = total + math.max(n, 1) <= limit
if fits and n > 0 then
  total = total + n
  redis.call('HINCRBY', key, int(slot % kept), n)
end
if total > 0 then
  while oldest < slot and tonumber(redis.call('HGET', key, int(oldest % kept)) or '0') == 0 do oldest = oldest + 1 end
else
  oldest = slot
end
if moved and (has[1] or n > 0 and fits) then
  redis.call('HSET', key, 'h', int(slot), 't', int(total), 'o', int(oldest), 'e', epoch)
  redis.call('PEXPIRE', key, int((kept + 1) * width))
elseif fits and n > 0 then
  redis.call('HSET', key, 't', int(total))
end

local reset, wait = 0, 0
if total > 0 then reset = (oldest + kept) * width - now end
if not fits then
  local need, i = total + math.max(n, 1) - limit, oldest
  while i < slot do
    need = need - tonumber(redis.call('HGET', key, int(i % kept)) or '0')
    if need <= 0 then break end
    i = i + 1
  end
  wait = (i + kept) * width - now
end
return {fits and 1 or 0, total, wait, reset, slot, epoch}
