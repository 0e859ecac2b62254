"""Drives the real Inmanta client library and inmanta-cli through the life of a user, a role, an
environment and a token.

Reads JSON from standard input: the port of the server, the first user, and a directory to work in.
Fails at the first answer that differs from those of the real server.
"""

import base64
import json
import os
import re
import subprocess
import sys

from inmanta import config
from inmanta.protocol import SyncClient

given = json.load(sys.stdin)
PORT = str(given["port"])
ADMIN, ADMIN_PASSWORD = given["administrator"]["username"], given["administrator"]["password"]
FIRST, SECOND, THIRD = "Correct-Horse-9", "Battery-Staple-7", "Lantern-Window-3"
CLI = os.path.join(os.path.dirname(sys.executable), "inmanta-cli")
os.chdir(given["directory"])


def transport(name, token):
    """Selects the server and the token of a client."""
    config.Config.set(name, "host", "127.0.0.1")
    config.Config.set(name, "port", PORT)
    if token is None:
        config.Config.get_instance().remove_option(name, "token")
    else:
        config.Config.set(name, "token", token)


def client(token=None):
    transport("client_rest_transport", token)
    return SyncClient("client")


def expect(answer, code=200, message=None):
    """Checks an answer, and returns what is in its envelope."""
    text = (answer.result or {}).get("message")
    assert answer.code == code, f"expected {code}, got {answer.code} {answer.result}"
    assert message is None or message in text, f"expected {message!r}, got {text!r}"
    return (answer.result or {}).get("data", answer.result)


def equal(actual, expected):
    assert actual == expected, f"expected {expected!r}, got {actual!r}"


def cli(*arguments, token, code=0):
    """Runs inmanta-cli, and returns what it prints."""
    command = [CLI, "--host", "127.0.0.1", "--port", PORT, *arguments]
    variables = {**os.environ, "COLUMNS": "200", "INMANTA_CMDLINE_REST_TRANSPORT_TOKEN": token}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def log_in(username, password):
    session = expect(client().login(username, password))
    equal(session["user"]["username"], username)
    equal(session["expires_in"], 3600)
    return session["token"]


def users(root):
    """Adds users, and sets passwords. Returns the name and the password of one."""
    expect(root.add_user("anna", FIRST))
    expect(root.add_user("anna", FIRST), 409, "A user with name anna already exists.")
    # A body of more than 1024 bytes is compressed.
    expect(root.add_user("long", "Aa1" + "x" * 2000), 400, "at most 128 characters long")
    expect(root.add_user("b" * 200, FIRST))
    expect(root.delete_user("b" * 200))
    # The client repeats the name of the path in the body.
    expect(root.set_password("anna", SECOND))
    expect(client().login("anna", FIRST), 401, "Invalid username or password")
    anna = client(log_in("anna", SECOND))
    equal(expect(anna.get_current_user()), {"username": "anna"})
    expect(anna.set_password("anna", THIRD), 400, "requires the current password")
    wrong = anna.set_password("anna", THIRD, current_password=FIRST)
    expect(wrong, 401, "The current password is incorrect")
    expect(anna.set_password("anna", THIRD, current_password=SECOND))
    expect(client().login("anna", SECOND), 401)
    log_in("anna", THIRD)
    return "anna", THIRD


def environments(root, token):
    """Creates a project and environments. Returns the id of one."""
    assert "lab" in cli("project", "create", "-n", "lab", token=token)
    taken = cli("project", "create", "-n", "lab", token=token, code=1)
    assert "A project with name lab already exists." in taken, taken
    assert "lab" in cli("project", "list", token=token)
    assert "dev" in cli("environment", "create", "-n", "dev", "-p", "lab", token=token)
    taken = cli("environment", "create", "-n", "dev", "-p", "lab", token=token, code=1)
    assert "already has an environment with name dev" in taken, taken
    project = next(one for one in expect(root.project_list()) if one["name"] == "lab")
    arguments = ["-r", "git@example.org:lab.git", "-b", "main"]
    assert "prod" in cli(
        "environment", "create", "-n", "prod", "-p", project["id"], *arguments, token=token
    )
    listed = cli("environment", "list", token=token)
    assert "dev" in listed and "prod" in listed, listed
    assert "git@example.org:lab.git" in cli("environment", "show", "prod", token=token)
    # The client validates every member.
    typed = sorted(root.environment_list().value(), key=lambda one: one.name)
    equal([one.name for one in typed], ["dev", "prod"])
    equal([one.repo_branch for one in typed], ["master", "main"])
    equal({str(one.project_id) for one in typed}, {project["id"]})
    made = expect(root.environment_create(project["id"], "test", description="for tests"))
    detailed = {one["name"]: one for one in expect(root.environment_list(details=True))}
    equal(detailed["test"]["description"], "for tests")
    expect(root.environment_create(project["id"], "test"), 400, "already has an environment")
    expect(root.environment_modify(made["id"], "test2"))
    equal(expect(root.environment_get(made["id"]))["name"], "test2")
    expect(root.environment_delete(made["id"]))
    expect(root.environment_get(made["id"]), 404)
    return str(typed[0].id)


def roles(root, name, password, environment):
    """Assigns a role to a user, and takes it back."""
    expect(root.create_role("reviewer"))
    expect(root.create_role("reviewer"), 400, "Role reviewer already exists.")
    assert "reviewer" in expect(root.list_roles())
    expect(root.assign_role(name, environment, "reviewer"))
    equal(expect(root.list_roles_for_user(name)), {"assignments": {environment: ["reviewer"]}})
    named = next(one for one in expect(root.list_users()) if one["username"] == name)
    equal(named["roles"], {environment: ["reviewer"]})
    session = claims(log_in(name, password))
    equal(session["urn:inmanta:roles"], {environment: ["reviewer"]})
    equal(session["urn:inmanta:is_admin"], False)
    expect(root.delete_role("reviewer"), 400, "still assigned to a user")
    expect(root.unassign_role(name, environment, "reviewer"))
    expect(root.unassign_role(name, environment, "reviewer"), 400, "is not assigned to user")
    expect(root.delete_role("reviewer"))
    expect(root.set_is_admin(name, True))
    equal(claims(log_in(name, password))["urn:inmanta:is_admin"], True)
    expect(root.set_is_admin(name, False))


def tokens(root, token, environment):
    """Creates tokens by both versions of the call and by the command line, and revokes them."""
    printed = cli("token", "create", "-e", "dev", "--api", "--agent", token=token)
    by_name = re.fullmatch(r"Token: (\S+)\n", printed)[1]
    equal(claims(by_name)["urn:inmanta:ct"], "api,agent")
    equal(claims(by_name)["urn:inmanta:env"], environment)
    equal(claims(by_name)["urn:inmanta:created_by"], ADMIN)
    short = expect(root.environment_create_token(environment, ["api"], expire=60))
    equal(claims(short)["exp"] - claims(short)["iat"], 60)
    first = expect(root.create_token(environment, ["api"]))["token"]
    stable = [expect(root.create_token(environment, ["api"], idempotent=True)) for _ in range(2)]
    equal(stable[0], stable[1])
    # The real server does not list idempotent tokens, and this server does.
    listed = {one["jti"] for one in expect(root.environment_token_list(environment))}
    assert {claims(one)["jti"] for one in (first, short, by_name)} <= listed, listed
    for one in (first, by_name):
        expect(client(one).environment_get(environment))
        expect(root.environment_token_revoke(environment, claims(one)["jti"]))
        expect(root.environment_token_revoke(environment, claims(one)["jti"]))
        expect(client(one).environment_get(environment), 403)
    expect(client(short).environment_get(environment))
    expect(client(stable[0]["token"]).environment_get(environment))
    listed = expect(root.environment_token_list(environment))
    revoked = {one["jti"] for one in listed if one["revoked_at"]}
    equal(revoked, {claims(one)["jti"] for one in (first, by_name)})
    unknown = "00000000-0000-4000-8000-000000000000"
    expect(root.environment_token_revoke(environment, unknown), 404, "No token with jti")
    expect(root.environment_create_token(unknown, ["api"]), 404, "does not exist")
    bootstrap = cli("token", "bootstrap", token=token).removeprefix("Token: ").strip()
    expect(client(bootstrap).list_users())


def end(root, token, name, password, environment):
    """Deletes what was created."""
    cli("environment", "delete", environment, token=token)
    expect(root.environment_get(environment), 404)
    expect(root.delete_user(name))
    expect(root.delete_user(name), 404, f"User with name {name} does not exist.")
    expect(client().login(name, password), 401, "Invalid username or password")


def main():
    equal(client().health().result, {"data": None})
    expect(client().login(ADMIN, "wrong"), 401, "Invalid username or password")
    expect(client().list_users(), 401)
    renewed = expect(client(log_in(ADMIN, ADMIN_PASSWORD)).login_renew())
    token = renewed["token"]
    root = client(token)
    equal(expect(root.get_current_user()), {"username": ADMIN})
    name, password = users(root)
    environment = environments(root, token)
    roles(root, name, password, environment)
    tokens(root, token, environment)
    assert expect(root.get_api_docs("openapi"))["paths"]["/api/v2/login"]
    assert expect(root.get_server_status())["version"]
    end(root, token, name, password, environment)


main()
