"""Walks through the whole life of a user and of a token as the web console does, with
requests and PyJWT, which know nothing of Countersign. Reads where the server is, the key
and issuer of its section and a token that may do everything; ends with an error if
anything is not as the Inmanta server has it.
"""

import json
import sys
import time
import uuid

import jwt
import requests

wanted = json.load(sys.stdin)
KEY = jwt.utils.base64url_decode(wanted["key"])
PASSWORD, NEW = "correct horse", "b\u00e4ttery staple"


class Console:
    """Somebody at the console, who sends along what the last login gave."""

    def __init__(self, token=None):
        self.http = requests.Session()
        self.trust(token)

    def trust(self, token):
        self.token = token
        if token:
            self.http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method, path, expected=200, within=None, **arguments):
        """Makes a call and returns what it has to say: its data, or why not."""
        lines = {"X-Inmanta-tid": within} if within else {}
        where = {"params" if method in ("GET", "DELETE") else "json": arguments or None}
        answer = self.http.request(method, f"{wanted['url']}/api/v2{path}", headers=lines, timeout=20, **where)
        if answer.status_code != expected:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        self.answer = answer
        if not answer.content:
            return None
        return answer.json()["data"] if expected == 200 else answer.json()["message"]

    def log_in(self, username, password):
        said = self.call("POST", "/login", username=username, password=password)
        same(self.answer.headers["Authorization"], f"Bearer {said['token']}")
        self.trust(said["token"])
        return said


def same(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def claims(token):
    """What PyJWT makes of a token, once it has checked it with what a section says."""
    return jwt.decode(token, KEY, algorithms=["HS256"], issuer=wanted["issuer"], audience=wanted["issuer"])


def create(admin, environment):
    user = admin.call("POST", "/user", username="b\u00f6b", password=PASSWORD)
    same(user, {"username": "b\u00f6b", "auth_method": "database", "is_admin": False})
    admin.call("PUT", "/environment", name="prod", environment_id=environment)
    admin.call("POST", "/role", name="operator")
    admin.call("POST", "/role_assignment/b%C3%B6b", environment=environment, role="operator")
    same([user["roles"] for user in admin.call("GET", "/user")], [{environment: ["operator"]}])


def check_session(bob, environment):
    said = bob.log_in("b\u00f6b", PASSWORD)
    same(said["user"]["is_admin"], False)
    session = claims(said["token"])
    same(session["exp"] - session["iat"], said["expires_in"])
    same(session["sub"], "b\u00f6b")
    same(session["urn:inmanta:ct"], "api")
    same(session["urn:inmanta:roles"], {environment: ["operator"]})
    same(session["urn:inmanta:is_admin"], False)
    same(bob.call("GET", "/current_user"), {"username": "b\u00f6b"})
    bob.trust(bob.call("POST", "/login/renew")["token"])
    same(bob.call("GET", "/current_user"), {"username": "b\u00f6b"})
    # PyJWT writes the same claims as the same bytes.
    same(jwt.encode(claims(bob.token), KEY, algorithm="HS256"), bob.token)


def change_password(bob):
    path = "/user/b%C3%B6b/password"
    bob.call("PATCH", path, 400, password=NEW)
    same(bob.call("PATCH", path, 401, password=NEW, current_password="wrong"), "The current password is incorrect")
    bob.call("PATCH", path, password=NEW, current_password=PASSWORD)
    other = Console()
    same(other.call("POST", "/login", 401, username="b\u00f6b", password=PASSWORD), "Invalid username or password")
    other.log_in("b\u00f6b", NEW)


def live_a_tokens_life(bob, environment):
    def wish(**arguments):
        return bob.call("POST", "/environment_auth", within=environment, client_types=["api", "agent"], **arguments)

    token = wish(expire=600)
    issued = claims(token)
    uuid.UUID(issued["jti"])
    same(issued["created_by"], "b\u00f6b")
    same(issued["urn:inmanta:ct"], "api,agent")
    same(issued["urn:inmanta:env"], environment)
    same(issued["exp"] - issued["iat"], 600)
    if abs(time.time() - issued["iat"]) > 60:
        raise AssertionError(f"it was issued at {issued['iat']}")
    same(jwt.encode(issued, KEY, algorithm="HS256"), token)

    idempotent = wish(idempotent=True)
    same(idempotent, wish(idempotent=True))
    expected = {
        "iss": wanted["issuer"],
        "aud": [wanted["issuer"]],
        "urn:inmanta:ct": "api,agent",
        "urn:inmanta:env": environment,
    }
    same(claims(idempotent), expected)
    same(jwt.encode(expected, KEY, algorithm="HS256"), idempotent)

    program = Console(token)
    listed = program.call("GET", "/environment_auth", within=environment)
    same([(one["jti"], one["created_by"], one["revoked_at"]) for one in listed], [(issued["jti"], "b\u00f6b", None)])
    program.call("GET", "/user", 403)
    revoked = bob.call("DELETE", f"/environment_auth/{issued['jti']}", within=environment)
    same(revoked["revoked_at"] is None, False)
    program.call("GET", "/environment_auth", 403, within=environment)
    # What says no id cannot be taken back by one.
    Console(idempotent).call("GET", "/environment_auth", within=environment)


def delete(admin, bob, environment):
    admin.call("DELETE", "/user/b%C3%B6b")
    bob.call("GET", "/current_user", 403)
    same(admin.call("GET", "/user"), [])
    admin.call("DELETE", "/role", name="operator")
    admin.call("DELETE", f"/environment/{environment}")


def main():
    admin, bob, environment = Console(wanted["token"]), Console(), str(uuid.uuid4())
    create(admin, environment)
    check_session(bob, environment)
    change_password(bob)
    live_a_tokens_life(bob, environment)
    delete(admin, bob, environment)


main()
