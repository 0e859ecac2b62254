-- Asks Countersign about a request, for haproxy.cfg.
--
-- The answer is 200, and its identity headers are put into the request, or it is
-- handed to the client. Only an answer of 200 sets txn.countersign_allowed, without
-- which haproxy.cfg lets nobody pass: a script that fails is no answer.

-- Where haproxy.cfg listens for these questions.
local DESTINATION = "abns@countersign"

-- Longer than haproxy.cfg waits for Countersign, in milliseconds.
local TIMEOUT = 10000

-- Where a token may be. Add auth_additional_header of [server], if there is one. All
-- lines of them are handed on, since Countersign refuses a credential that comes twice.
local CREDENTIALS = { "authorization" }

-- identity_headers in Countersign's configuration.
local IDENTITY = { "x-auth-subject", "x-auth-user", "x-auth-issuer", "x-auth-client-types", "x-auth-tenant" }

-- What a client is told of a refusal.
local REFUSALS = { [401] = true, [403] = true, [429] = true, [503] = true }
local EXPLANATIONS = { "www-authenticate", "retry-after", "x-auth-error" }

-- HAProxy counts the lines of a header from 0, and Lua from 1.
local function lines(headers, name)
    local found = {}
    local all = headers[name] or {}
    local index = 0
    while all[index] do
        found[#found + 1] = all[index]
        index = index + 1
    end
    return found
end

-- The question: nothing of what the client sent but its credential.
local function question(txn, uri)
    local headers = {
        ["host"] = { "countersign" },
        ["x-forwarded-for"] = { txn.f:src() },
        ["x-original-method"] = { txn.f:method() },
        ["x-original-uri"] = { uri },
        ["x-request-id"] = { txn.f:unique_id() },
    }
    local sent = txn.http:req_get_headers()
    for _, name in ipairs(CREDENTIALS) do
        local credential = lines(sent, name)
        if #credential > 0 then
            headers[name] = credential
        end
    end
    return { url = "http://countersign/auth", dst = DESTINATION, headers = headers, timeout = TIMEOUT }
end

local function refuse(txn, status, headers)
    local reply = txn:reply({ status = status })
    reply:add_header("cache-control", "no-store")
    for _, name in ipairs(EXPLANATIONS) do
        for _, line in ipairs(lines(headers, name)) do
            reply:add_header(name, line)
        end
    end
    txn:done(reply)
end

core.register_action("countersign", { "http-req" }, function(txn)
    -- What the client says of itself is gone before anything can go wrong.
    for _, name in ipairs(IDENTITY) do
        txn.http:req_del_header(name)
    end
    -- Something like OPTIONS * has no path to ask about.
    local uri = txn.f:pathq()
    if not uri or uri == "" then
        return refuse(txn, 400, {})
    end
    local answer = core.httpclient():get(question(txn, uri))
    if answer.status == 200 then
        for _, name in ipairs(IDENTITY) do
            for _, line in ipairs(lines(answer.headers, name)) do
                txn.http:req_add_header(name, line)
            end
        end
        txn:set_var("txn.countersign_allowed", true)
    elseif REFUSALS[answer.status] then
        refuse(txn, answer.status, answer.headers)
    end
end)
