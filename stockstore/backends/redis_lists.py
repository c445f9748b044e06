"""The scripts that read a list with its rows, and fill it with them."""

from typing import Final

from stockstore.backends.redis_scripts import _COUNTER, _LIFETIMES, _LIVES, _MARKERS, Script, _script

# Of a list that cannot be followed the caller judges the cell alone. What is absent is leased at once, and told by a 1; where the server
# refuses to write, as a full one does, it stays absent.
_FOLLOW_LIST: Final = """
local try, call, pcall, sub = pcall, redis.call, redis.pcall, string.sub
local id, prefix, stamp, lease, token, lasts, seconds = unpack(ARGV)
local answer = call('MGET', unpack(KEYS))
for i = 1, 2 do
    if answer[i] and is_foreign(answer[i], id) then answer[i] = false end
end
local function leased(key)
    if is_generation(answer[1], id) then
        if call('TTL', KEYS[1]) < lasts / 2 then pcall('EXPIRE', KEYS[1], lasts) end
    elseif is_marker(answer[1]) then
        return false
    else
        local made = 'V' .. id .. token
        if failed(pcall('SETEX', KEYS[1], lasts, made)) then return false end
        answer[1] = made
    end
    return not failed(pcall('SETEX', key, seconds, lease)) and 1
end
local list = answer[2]
if not list then
    answer[2] = leased(KEYS[2])
    if answer[2] and prefix ~= '' then
        local watch = call('GET', KEYS[1] .. '~')
        if not watch or sub(watch, 1, 8) ~= id then
            watch = id .. token .. sub(lease, 10, 17) .. string.rep('\\0', 256)
            call('SETEX', KEYS[1] .. '~', lasts, watch)
        end
        answer[3] = watch
    end
    return answer
end
local generation = answer[1]
if string.byte(list) ~= 86 or not is_generation(generation, id) then return answer end
if sub(list, 19, 26) ~= sub(generation, 10) or sub(list, 27, 34) ~= stamp then return answer end
local sound, numbers = try(cmsgpack.unpack, sub(list, 35))
if not sound or type(numbers) ~= 'table' or #numbers == 0 or #numbers > 1000 then return answer end
for i = 1, #numbers do
    local number = numbers[i]
    if type(number) ~= 'number' then return answer end
    -- As text a number is exact below 10^14.
    numbers[i] = prefix .. (number > -1e14 and number < 1e14 and number or string.format('%.0f', number))
end
local cells, value = call('MGET', unpack(numbers)), 'V' .. id
for i = 1, #numbers do
    local cell = cells[i]
    if cell and sub(cell, 1, 9) ~= value and is_foreign(cell, id) then cell = false end
    answer[i + 2] = cell or leased(numbers[i])
end
return answer
"""

# The list by its lease, the rows by the watch that was seen with it: where one is absent, and no counter of its has moved.
_FILL_LIST: Final = """
local call, sub, lease, seen = redis.call, string.sub, ARGV[1], ARGV[2]
local seconds, count, filled = lifetimes_in(ARGV[3]), tonumber(ARGV[4]), 0
local cells, watch = call('MGET', unpack(KEYS, 1, count)), call('GET', string.match(KEYS[1], '^[^:]*:[^:]*:') .. '~')
local watched = watch and sub(watch, 1, 8) == sub(lease, 2, 9) and sub(watch, 1, 24) == sub(seen, 1, 24)
for i, key in ipairs(KEYS) do
    local from = 4 * counter_of(key) + 1
    if i > count then
        call('SETEX', key, seconds(i), ARGV[i + 4])
    elseif i == 1 and cells[1] == lease or i > 1 and not cells[i] and watched and sub(watch, from, from + 3) == sub(seen, from, from + 3) then
        call('SETEX', key, seconds(i), ARGV[i + 4])
        filled = filled + 1
    end
end
return {cells[1] == lease and 1 or 0, filled}
"""

FOLLOW_LIST: Final[Script] = _script(_LIVES, _MARKERS, _FOLLOW_LIST)
FILL_LIST: Final[Script] = _script(_LIFETIMES, _COUNTER, _FILL_LIST)
