"""The script that reads a list with its rows."""

from typing import Final

from stockstore.backends.redis_scripts import _LIVES, _MARKERS, Script, _script

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
    return answer
end
local generation = answer[1]
if string.byte(list) ~= 86 or not is_generation(generation, id) then return answer end
if sub(list, 19, 26) ~= sub(generation, 10) or sub(list, 27, 34) ~= stamp then return answer end
local sound, numbers = try(cmsgpack.unpack, sub(list, 35))
if not sound or type(numbers) ~= 'table' or #numbers == 0 or #numbers > 1000 then return answer end
for i, number in ipairs(numbers) do
    if type(number) ~= 'number' then return answer end
    numbers[i] = prefix .. string.format('%.0f', number)
end
for i, cell in ipairs(call('MGET', unpack(numbers))) do
    if cell and is_foreign(cell, id) then cell = false end
    answer[i + 2] = cell or leased(numbers[i])
end
return answer
"""

FOLLOW_LIST: Final[Script] = _script(_LIVES, _MARKERS, _FOLLOW_LIST)
