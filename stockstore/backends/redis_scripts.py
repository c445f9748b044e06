"""The steps of the coherence protocol as scripts, each over all keys of a batch.

Cells are those of ``stockstore.cells``. Where a script takes an id, it is that of the server's life: values and
leases with another are absent. Lifetimes are one argument, since an argument costs redis-py more than it costs
Redis to keep a value: ``=seconds`` where they are all alike, else ``#`` and four bytes each.
"""

import hashlib
from typing import NamedTuple


class Script(NamedTuple):
    """A script's text, and the digest by which a server knows it."""

    text: str
    digest: str


def _script(*parts: str) -> Script:
    text = "".join(parts)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# A process has a run_id of its own, which survives a demotion and a return to office. The replication id is new with each
# promotion, so that what a primary held before others took its place is not believed afterwards. The first byte is above
# 127: no id is that of zeros, nor begins as a cell of format 1 did.
_LIFE = """
local function life()
    local match, info = string.match, redis.call
    local run = match(info('INFO', 'server'), 'run_id:(%x+)') or error('this server tells no run_id')
    local digest = redis.sha1hex(run .. (match(info('INFO', 'replication'), 'master_replid:(%x+)') or ''))
    local bytes = {}
    for i = 1, 8 do
        bytes[i] = tonumber(string.sub(digest, 2 * i - 1, 2 * i), 16)
    end
    bytes[1] = bytes[1] % 128 + 128
    return string.char(unpack(bytes))
end
"""

LIFE = _script(_LIFE, "return life()")

# What a receiver compares: the number of the last message, and whether the server is still the primary that it was.
BEAT = _script("""
local info, number = redis.call('INFO', 'replication'), redis.pcall('GET', KEYS[1])
if type(number) == 'table' then number = '' end
return {number or '0', string.match(info, 'role:(%a+)') or '', string.match(info, 'master_replid:(%x+)') or ''}
""")

_LIFETIMES = """
local function lifetimes_in(packed)
    local alike, last, text = string.match(packed, '^=(%d+)$')
    return function(i)
        if alike then return alike end
        local this = string.sub(packed, 4 * i - 2, 4 * i + 1)
        if this ~= last then
            last, text = this, string.format('%.0f', struct.unpack('>I4', this))
        end
        return text
    end, alike
end
"""

_MARKERS = """
local function failed(answer)
    return type(answer) == 'table' and answer.err
end
local type, byte = type, string.byte
local function is_marker(cell)
    return type(cell) == 'string' and byte(cell) == 87
end
local function joined(cell, ticket)
    local tickets = string.sub(cell, 3)
    if string.find('|' .. tickets .. '|', '|' .. ticket .. '|', 1, true) then return cell end
    return 'W+' .. tickets .. '|' .. ticket
end
local function without(cell, ticket)
    local rest = {}
    for other in string.gmatch(string.sub(cell, 3), '[^|]+') do
        if other ~= ticket then rest[#rest + 1] = other end
    end
    return table.concat(rest, '|')
end
"""

# What memory in other processes is told of. The last argument names the channel, and the key by which its messages are numbered;
# an empty one tells nobody, and on a cluster, where that key would be another node's, messages have no numbers. A server that refuses
# to publish still does the step, and says so: who listens meets the gap, if the message was at least counted.
_PUBLISH = """
local refused = false
local function publish(ticket, count)
    local channel = ARGV[#ARGV]
    if channel == '' or count < 1 then return end
    local number = string.find(channel, '~', 1, true) and redis.pcall('INCR', channel)
    if type(number) ~= 'number' then number = 0 end
    -- In one piece: what is as long as all keys takes as long as they do to be made once more.
    local first = KEYS[1]
    KEYS[1] = string.format('%.0f', number) .. '\\n' .. ticket .. '\\n' .. first
    local message = table.concat(KEYS, ' ', 1, count)
    KEYS[1] = first
    local told = redis.pcall('PUBLISH', channel, message)
    refused = type(told) == 'table' and told.err
end
"""

# Who reads a list from the database does not know its rows before, and cannot lease them: he looks at a watch instead. That is a cell
# of the server's life, of tokens of the reader who made it, and of 64 counters, each for those rows of the class whose keys end alike.
# Every step that would take a lease away counts one up, whether there is one or not: so it is as if that look had leased all rows.
_COUNTER = """
local function counter_of(key)
    return 6 + (string.byte(key, -1) + 10 * string.byte(key, -2)) % 64
end
"""

# A full server refuses to count, but never a delete; what is many is deleted at once, too. Where the question is refused, to a user who may not ask
# it or by a slot of a cluster that is about to move, a watch is taken to be there; a cluster has none.
_STIR = """
local function stir(count)
    local head, steps, watched, keys, find = nil, {}, {}, KEYS, string.find
    for i = 1, count do
        if not head or find(keys[i], head, 1, true) ~= 1 then
            head = string.match(keys[i], '^[^:]*:[^:]*:') or keys[i]
            steps = redis.pcall('EXISTS', head .. '~') ~= 0 and (watched[head] or {head .. '~'})
            watched[head] = steps or nil
        end
        if steps and count <= 64 then
            local at = #steps
            steps[at + 1], steps[at + 2], steps[at + 3], steps[at + 4] = 'INCRBY', 'u32', '#' .. counter_of(KEYS[i]), 1
        end
    end
    for _, all in pairs(watched) do
        if #all == 1 or failed(redis.pcall('BITFIELD', unpack(all))) then redis.pcall('DEL', all[1]) end
    end
end
"""

_LIVES = """
local function is_foreign(cell, id)
    local tag = string.byte(cell)
    return (tag == 86 or tag == 76) and string.sub(cell, 2, 9) ~= id
end
local function is_generation(cell, id)
    return cell and #cell == 17 and string.byte(cell) == 86 and string.sub(cell, 2, 9) == id
end
"""

# What stands where most cells point to, a value of this life, is told by one comparison.
_FOLLOW = """
local call, byte, sub, id = redis.call, string.byte, string.sub, ARGV[1]
local cells, targets, places, count, value = call('MGET', unpack(KEYS)), {}, {}, 0, 'V' .. id
for i = 1, #KEYS do
    local cell = cells[i]
    local tag = cell and byte(cell)
    if tag == 65 then
        count = count + 1
        targets[count], places[count] = sub(cell, 2), i
    elseif (tag == 86 or tag == 76) and sub(cell, 2, 9) ~= id then
        cells[i] = false
    end
end
local found = count > 0 and call('MGET', unpack(targets))
for i = 1, count do
    local cell = found[i]
    if cell and sub(cell, 1, 9) == value then cells[places[i]] = cell end
end
return cells
"""

# The first key is the generation's where a token for a new one is given, or an 'L': then it is a replica, which is not made but leased, and
# that lease is answered, or another's that stands there. What a caller saw is left out where it saw nothing.
_LEASE = """
local call, byte, id, lease, token, lasts = redis.call, string.byte, ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local seconds, first = ARGV[5], token == '' and 1 or 2
local cells, generation = call('MGET', unpack(KEYS)), ''
if first == 2 then
    local cell = cells[1]
    generation = is_generation(cell, id) and string.sub(cell, 10)
    if generation then
        if call('TTL', KEYS[1]) < lasts / 2 then call('EXPIRE', KEYS[1], lasts) end
    elseif not is_marker(cell) and token ~= 'L' then
        generation = token
        call('SETEX', KEYS[1], lasts, 'V' .. id .. token)
    elseif not is_marker(cell) then
        generation = cell and not is_foreign(cell, id) and cell or lease
        if generation == lease then call('SETEX', KEYS[1], seconds, lease) end
    end
end
local answer = {generation}
for i = first, #KEYS do
    local cell = cells[i]
    if cell and is_foreign(cell, id) then cell = false end
    local tag = cell and byte(cell)
    local free = not cell or cell == lease or (tag ~= 87 and tag ~= 76 and cell == ARGV[6 + i - first])
    if free and generation then
        call('SETEX', KEYS[i], seconds, lease)
        cell = 1
    end
    answer[2 + i - first] = cell
end
return answer
"""

_FILL = """
local call, lease, seconds, count = redis.call, ARGV[1], lifetimes_in(ARGV[2]), tonumber(ARGV[3])
local filled, cells = 0, count > 0 and call('MGET', unpack(KEYS, 1, count))
for i, key in ipairs(KEYS) do
    if i > count then
        call('SETEX', key, seconds(i), ARGV[i + 3])
    elseif cells[i] == lease then
        call('SETEX', key, seconds(i), ARGV[i + 3])
        filled = filled + 1
    end
end
return filled
"""

# To take the old cell along with the write, and to put back the rare marker, costs less than to look first. Where cells of
# aliases are left out, each points to the value in its place, those of a second key again to the first, and so on.
_PUT = """
local call, byte, keys, given = redis.call, string.byte, KEYS, ARGV
local count, seconds, alike = tonumber(given[2]), lifetimes_in(given[1])
local told = #given - #keys > 3
for i = 1, count do
    local old = call('SET', keys[i], given[i + 2], 'EX', alike or seconds(i), 'GET')
    if old and byte(old) == 87 then call('SET', keys[i], old) end
end
for i = count + 1, #keys do
    call('SETEX', keys[i], alike or seconds(i), told and given[i + 2] or 'A' .. keys[(i - 1) % count + 1])
end
publish(given[#given - 1], count)
return refused
"""

# A server that is full refuses a script's first write, but neither a delete nor what follows one: that way the markers of
# others are kept, which are to be waited for still.
_MARK = """
local pcall, ticket, id, marked = redis.pcall, ARGV[1], ARGV[2], tonumber(ARGV[3])
local function delete_all()
    local markers = {}
    for i, cell in ipairs(redis.call('MGET', unpack(KEYS, 1, marked))) do
        if is_marker(cell) then markers[KEYS[i]] = cell else pcall('DEL', KEYS[i]) end
    end
    for key, cell in pairs(markers) do
        if failed(pcall('SET', key, joined(cell, ticket))) then pcall('DEL', key) end
    end
end
local mine, markers, keys, done = 'W-' .. ticket, {}, KEYS, marked < 1
-- By one command for all: each takes longer than what it does. New rows are absent, all of them where the first one is.
if not done and pcall('EXISTS', keys[1]) == 0 then
    for i = 1, marked do markers[2 * i - 1], markers[2 * i] = keys[i], mine end
    done = pcall('MSETNX', unpack(markers)) == 1
end
if not done then
    for i, cell in ipairs(redis.call('MGET', unpack(keys, 1, marked))) do
        markers[2 * i - 1], markers[2 * i] = keys[i], cell and byte(cell) == 87 and joined(cell, ticket) or mine
    end
    done = pcall('MSET', unpack(markers))
end
if failed(done) then
    delete_all()
    stir(marked)
    publish(ticket, marked)
    return done
end
stir(marked)
publish(ticket, marked)
local generations = marked < #KEYS and redis.call('MGET', unpack(KEYS, marked + 1)) or {}
for i, cell in ipairs(generations) do
    if not is_marker(cell) and not is_generation(cell, id) then
        local token = ARGV[4 + i]
        local made = 'V' .. id .. token
        generations[i] = token ~= 'L' and not failed(pcall('SETEX', KEYS[marked + i], ARGV[4], made)) and made
    end
end
return refused and {generations, refused} or generations
"""

# As with puts, the value is put first, and what stood there put back where the marker was not the sole one. A value
# that a full server refuses is left out: the marker goes in any case.
_RELEASE = """
local call, pcall, mine, ticket, committed = redis.call, redis.pcall, 'W-' .. ARGV[1], ARGV[1], ARGV[2] == '1'
local marked, seconds, valued, held = tonumber(ARGV[3]), lifetimes_in(ARGV[4]), tonumber(ARGV[5]), 0
local gone, rests = {}, {}
local function take(key, cell)
    if cell == mine then
        held = held + 1
        gone[#gone + 1] = key
    elseif is_marker(cell) then
        local rest = without(cell, ticket)
        if rest == string.sub(cell, 3) then return end
        held = held + 1
        if rest == '' then gone[#gone + 1] = key else rests[key] = 'W+' .. rest end
    elseif cell and committed then
        gone[#gone + 1] = key
    end
end
for i = 1, valued do
    local key = KEYS[i]
    local old = pcall('SET', key, ARGV[i + 5], 'EX', seconds(i), 'GET')
    if old == mine then
        held = held + 1
    elseif failed(old) then
        take(key, pcall('GET', key))
    else
        if is_marker(old) then call('SET', key, old) else call('DEL', key) end
        take(key, old)
    end
end
local cells, sole = marked > valued and call('MGET', unpack(KEYS, valued + 1, marked)) or {}, 0
while sole < #cells and cells[sole + 1] == mine do sole = sole + 1 end
if sole > 0 then
    held = held + sole
    call('DEL', unpack(KEYS, valued + 1, valued + sole))
end
for i = sole + 1, #cells do take(KEYS[valued + i], cells[i]) end
if #gone > 0 then call('DEL', unpack(gone)) end
for key, cell in pairs(rests) do call('SET', key, cell) end
for i = marked + 1, #KEYS do
    local at = valued + i - marked
    pcall('SETEX', KEYS[i], seconds(at), ARGV[at + 5])
end
stir(marked)
if committed and held < marked then publish(ticket, marked) end
return refused and {{held}, refused} or held
"""

_INVALIDATE = """
local call, sub, id, gone, dead, kept = redis.call, string.sub, ARGV[1], 0, {}, {}
-- To ask whether any is there takes less than to read them all: of new rows none is.
for i, cell in ipairs(redis.pcall('EXISTS', unpack(KEYS)) ~= 0 and call('MGET', unpack(KEYS)) or {}) do
    if is_marker(cell) then
        if sub(cell, 2, 2) ~= '+' then kept[KEYS[i]] = 'W+' .. sub(cell, 3) end
    elseif cell then
        if string.byte(cell) == 86 and not is_foreign(cell, id) then gone = gone + 1 end
        dead[#dead + 1] = KEYS[i]
    end
end
if #dead > 0 then call('UNLINK', unpack(dead)) end
for key, cell in pairs(kept) do call('SET', key, cell) end
stir(#KEYS)
publish(ARGV[#ARGV - 1], #KEYS)
return refused and {{gone}, refused} or gone
"""

_TELL = """
publish(ARGV[#ARGV - 1], #KEYS)
return refused and {{1}, refused} or 1
"""


FOLLOW = _script(_FOLLOW)
LEASE = _script(_LIVES, _MARKERS, _LEASE)
FILL = _script(_LIFETIMES, _FILL)
PUT = _script(_LIFETIMES, _PUBLISH, _PUT)
MARK = _script(_LIVES, _MARKERS, _COUNTER, _STIR, _PUBLISH, _MARK)
RELEASE = _script(_LIFETIMES, _MARKERS, _COUNTER, _STIR, _PUBLISH, _RELEASE)
INVALIDATE = _script(_LIVES, _MARKERS, _COUNTER, _STIR, _PUBLISH, _INVALIDATE)
TELL = _script(_PUBLISH, _TELL)
