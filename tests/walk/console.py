"""End-to-end scenario of the web console: the life cycle of a user and of a token. It uses
the independent libraries requests and PyJWT. Standard input is a JSON object with the URL of
the server, the key and the issuer of its section, and an administrator token. The script
fails if a response differs from that of the Inmanta server.
"""

import json
import sys
import time
import uuid

import jwt
import requests

settings = json.load(sys.stdin)
KEY = jwt.utils.base64url_decode(settings["key"])
PASSWORD, NEW = "correct horse", "b\u00e4ttery staple"


class Console:
    """Session of a console user, with the token of the last login."""

    def __init__(self, token=None):
        self.http = requests.Session()
        self.use_token(token)

    def use_token(self, token):
        self.token = token
        if token:
            self.http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method, path, expected=200, within=None, **arguments):
        """Sends a request. Returns the data of the response, or the message of an error."""
        lines = {"X-Inmanta-tid": within} if within else {}
        where = {"params" if method in ("GET", "DELETE") else "json": arguments or None}
        response = self.http.request(method, f"{settings['url']}/api/v2{path}", headers=lines, timeout=20, **where)
        if response.status_code != expected:
            raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
        self.response = response
        if not response.content:
            return None
        return response.json()["data"] if expected == 200 else response.json()["message"]

    def log_in(self, username, password):
        login = self.call("POST", "/login", username=username, password=password)
        assert_equal(self.response.headers["Authorization"], f"Bearer {login['token']}")
        self.use_token(login["token"])
        return login


def assert_equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def claims(token):
    """Verifies a token with PyJWT by the settings of the section. Returns its claims."""
    return jwt.decode(token, KEY, algorithms=["HS256"], issuer=settings["issuer"], audience=settings["issuer"])


def create_user(admin, environment):
    user = admin.call("POST", "/user", username="b\u00f6b", password=PASSWORD)
    assert_equal(user, {"username": "b\u00f6b", "auth_method": "database", "is_admin": False})
    project = admin.call("PUT", "/project", name="lab")["id"]
    admin.call("PUT", "/environment", name="prod", project_id=project, environment_id=environment)
    admin.call("POST", "/role", name="operator")
    admin.call("POST", "/role_assignment/b%C3%B6b", environment=environment, role="operator")
    assert_equal([user["roles"] for user in admin.call("GET", "/user")], [{environment: ["operator"]}])


def check_session(bob, environment):
    login = bob.log_in("b\u00f6b", PASSWORD)
    assert_equal(login["user"]["is_admin"], False)
    session = claims(login["token"])
    assert_equal(session["exp"] - session["iat"], login["expires_in"])
    assert_equal(session["sub"], "b\u00f6b")
    assert_equal(session["urn:inmanta:ct"], "api")
    assert_equal(session["urn:inmanta:roles"], {environment: ["operator"]})
    assert_equal(session["urn:inmanta:is_admin"], False)
    assert_equal(bob.call("GET", "/current_user"), {"username": "b\u00f6b"})
    bob.use_token(bob.call("POST", "/login/renew")["token"])
    assert_equal(bob.call("GET", "/current_user"), {"username": "b\u00f6b"})
    # PyJWT encodes the same claims to the same bytes.
    assert_equal(jwt.encode(claims(bob.token), KEY, algorithm="HS256"), bob.token)


def change_password(bob):
    path = "/user/b%C3%B6b/password"
    bob.call("PATCH", path, 400, password=NEW)
    assert_equal(bob.call("PATCH", path, 401, password=NEW, current_password="wrong"), "The current password is incorrect")
    assert_equal(bob.call("PATCH", path, password=NEW, current_password=PASSWORD), None)
    token = bob.response.headers["Authorization"].removeprefix("Bearer ")
    bob.call("GET", "/current_user", 401)
    bob.use_token(token)
    other = Console()
    assert_equal(other.call("POST", "/login", 401, username="b\u00f6b", password=PASSWORD), "Invalid username or password")
    other.log_in("b\u00f6b", NEW)


def log_out(bob):
    other = Console()
    other.log_in("b\u00f6b", NEW)
    other.call("POST", "/logout")
    other.call("GET", "/current_user", 401)
    other.call("POST", "/login/renew", 401)
    assert_equal(bob.call("GET", "/current_user"), {"username": "b\u00f6b"})


def check_token_life_cycle(bob, environment):
    def issue(**arguments):
        return bob.call("POST", "/environment_auth", within=environment, client_types=["api", "agent"], **arguments)

    token = issue(expire=600)
    issued = claims(token)
    uuid.UUID(issued["jti"])
    assert_equal(issued["urn:inmanta:created_by"], "b\u00f6b")
    assert_equal(issued["urn:inmanta:ct"], "api,agent")
    assert_equal(issued["urn:inmanta:env"], environment)
    assert_equal(issued["exp"] - issued["iat"], 600)
    if abs(time.time() - issued["iat"]) > 60:
        raise AssertionError(f"unexpected iat: {issued['iat']}")
    assert_equal(jwt.encode(issued, KEY, algorithm="HS256"), token)

    idempotent = issue(idempotent=True)
    assert_equal(idempotent, issue(idempotent=True))
    expected = {
        "iss": settings["issuer"],
        "aud": [settings["issuer"]],
        "urn:inmanta:ct": "api,agent",
        "urn:inmanta:created_by": "b\u00f6b",
        "urn:inmanta:env": environment,
    }
    assert_equal(claims(idempotent), expected)
    assert_equal(jwt.encode(expected, KEY, algorithm="HS256"), idempotent)

    program = Console(token)
    listed = program.call("GET", "/environment_auth", within=environment)
    by_id = {one["jti"]: (one["created_by"], one["revoked_at"]) for one in listed}
    assert_equal(by_id.pop(issued["jti"]), ("b\u00f6b", None))
    [(idempotent_id, described)] = by_id.items()
    assert_equal(described, ("b\u00f6b", None))
    program.call("GET", "/user", 403)
    assert_equal(bob.call("DELETE", f"/environment_auth/{issued['jti']}", within=environment), None)
    program.call("GET", "/environment_auth", 403, within=environment)
    Console(idempotent).call("GET", "/environment_auth", within=environment)
    bob.call("DELETE", f"/environment_auth/{idempotent_id}", within=environment)
    Console(idempotent).call("GET", "/environment_auth", 403, within=environment)


def delete_user(admin, bob, environment):
    admin.call("DELETE", "/user/b%C3%B6b")
    bob.call("GET", "/current_user", 401)
    assert_equal(admin.call("GET", "/user"), [])
    admin.call("DELETE", "/role", name="operator")
    admin.call("DELETE", f"/environment/{environment}")


def main():
    admin, bob, environment = Console(settings["token"]), Console(), str(uuid.uuid4())
    create_user(admin, environment)
    check_session(bob, environment)
    change_password(bob)
    log_out(bob)
    check_token_life_cycle(bob, environment)
    delete_user(admin, bob, environment)


main()
