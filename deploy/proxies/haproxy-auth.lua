-- Authorizes a request with Countersign, for haproxy.cfg.
--
-- If the answer is 200, its identity headers are added to the request. Any other answer is
-- sent to the client. Only a 200 sets txn.countersign_allowed, which haproxy.cfg requires,
-- so requests are refused if the script fails.

-- Address of the listener in haproxy.cfg that forwards to Countersign.
local DESTINATION = "abns@countersign"

-- Timeout in milliseconds, longer than the timeouts in haproxy.cfg.
local TIMEOUT = 10000

-- Headers with tokens. Add auth_additional_header of [server], if it is set. All lines are
-- forwarded, because Countersign refuses duplicate credentials.
local CREDENTIALS = {
    "authorization",
    -- With surface = orchestrate, these as well.
    -- orchestrate: "x-api-key", "x-tenant-id", "x-username",
}

-- [identity_headers] in Countersign's configuration.
local IDENTITY = {
    "x-auth-subject", "x-auth-user", "x-auth-issuer", "x-auth-client-types", "x-auth-environment",
    "x-auth-tenant", "x-auth-allowed-tenants",
}

-- Statuses and headers of refusals that are forwarded to the client.
local REFUSALS = {
    [400] = true, [401] = true, [403] = true, [413] = true, [429] = true, [431] = true, [503] = true,
}
local EXPLANATIONS = { "www-authenticate", "retry-after", "x-auth-error" }

-- Returns all lines of a header. HAProxy indexes them from 0, but Lua from 1.
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

-- The authorization request. It contains no headers of the client except credentials.
local function question(txn, uri)
    local headers = {
        ["host"] = { "countersign" },
        ["x-forwarded-for"] = { txn.f:src() },
        ["x-original-method"] = { txn.f:method() },
        ["x-original-uri"] = { uri },
        ["x-request-id"] = { txn.f:unique_id() },
        -- Compared with Origin, if a cookie may contain the token (token_cookie).
        ["x-forwarded-host"] = { txn.sf:req_fhdr("host") },
        ["x-forwarded-proto"] = { txn.sf:req_fhdr("x-forwarded-proto") },
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
    -- HAProxy's own 503, while Countersign is down, has no retry-after.
    if status == 503 and #lines(headers, "retry-after") == 0 then
        reply:add_header("retry-after", "5")
    end
    txn:done(reply)
end

core.register_action("countersign", { "http-req" }, function(txn)
    -- Remove identity headers sent by the client before any step can fail.
    for _, name in ipairs(IDENTITY) do
        txn.http:req_del_header(name)
    end
    -- A path that needs no token.
    if txn:get_var("txn.countersign_public") then
        txn:set_var("txn.countersign_allowed", true)
        return
    end
    -- OPTIONS * has no path to authorize.
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
