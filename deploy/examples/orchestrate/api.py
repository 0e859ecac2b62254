#!/usr/bin/env python3
"""A small API for several tenants, behind a proxy that asks Countersign.

It trusts the identity headers, since the proxy replaces those of a client. It therefore listens
on this machine only, and refuses a request that has no identity.

    POST /chains        {"name": "..."}, optionally with Idempotency-Key
    GET  /chains        those that the caller may read
    GET  /chains/ID     404 for a chain of another tenant, as for one that does not exist
"""

import json
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY_BYTES = 64 * 1024
# Countersign always sends the first two, and the user where there is one.
TENANT, ALLOWED, USER = "X-Auth-Tenant", "X-Auth-Allowed-Tenants", "X-Auth-User"


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Caller:
    """The tenant that a request acts for, and the tenants that it may read."""

    def __init__(self, headers):
        values = {name: headers.get_all(name, []) for name in (TENANT, ALLOWED, USER)}
        tenant, allowed = "".join(values[TENANT]), "".join(values[ALLOWED])
        # Without an identity, the proxy did not ask. An empty list never means every tenant.
        if any(len(lines) > 1 for lines in values.values()) or not tenant or not allowed:
            raise Refusal(503, "the request has no identity: is the proxy configured?")
        self.tenant = tenant
        self.allowed = allowed.split(",")
        self.user = "".join(values[USER])

    def may_read(self, chain):
        return "*" in self.allowed or chain["tenant"] in self.allowed


class Chains:
    """The chains of all tenants, in memory."""

    def __init__(self):
        self.lock = threading.Lock()
        self.by_id = {}
        self.by_key = {}

    def create(self, caller, name, key):
        """Returns a chain and whether it is new. A key counts within its tenant only."""
        with self.lock:
            known = self.by_key.get((caller.tenant, key)) if key else None
            if known:
                if known["name"] != name:
                    raise Refusal(409, "the idempotency key was used for another chain")
                return known, False
            chain = {
                "uuid": str(uuid.uuid4()),
                "name": name,
                "tenant": caller.tenant,
                "created_by": caller.user,
            }
            self.by_id[chain["uuid"]] = chain
            if key:
                self.by_key[caller.tenant, key] = chain
            return chain, True

    def list(self, caller):
        with self.lock:
            return [chain for chain in self.by_id.values() if caller.may_read(chain)]

    def get(self, caller, chain_id):
        with self.lock:
            chain = self.by_id.get(chain_id)
        if chain is None or not caller.may_read(chain):
            raise Refusal(404, "chain not found")
        return chain


CHAINS = Chains()


class Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_GET(self):
        self.answer(self.read)

    def do_POST(self):
        self.answer(self.create)

    def read(self, caller):
        if self.path == "/chains":
            return 200, CHAINS.list(caller)
        chain_id = self.path.removeprefix("/chains/")
        if chain_id == self.path:
            raise Refusal(404, "no such path")
        return 200, CHAINS.get(caller, chain_id)

    def create(self, caller):
        if self.path != "/chains":
            raise Refusal(404, "no such path")
        try:
            name = json.loads(self.body())["name"]
        except (ValueError, TypeError, KeyError) as error:
            raise Refusal(400, "the body must be an object with a name") from error
        if not isinstance(name, str) or not name:
            raise Refusal(400, "the name must be a text")
        chain, is_new = CHAINS.create(caller, name, self.headers.get("Idempotency-Key"))
        return (201 if is_new else 200), chain

    def body(self):
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise Refusal(411, "a length is required")
        if int(length) > MAX_BODY_BYTES:
            raise Refusal(413, "the body is too large")
        return self.rfile.read(int(length))

    def answer(self, action):
        try:
            status, value = action(Caller(self.headers))
        except Refusal as refusal:
            status, value = refusal.status, {"message": str(refusal), "code": refusal.status}
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    host, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080").split(":")
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
