"""Logs a machine in by a TLS client certificate, with requests, and uses, renews and revokes its
access token. Prints the statuses and the responses as JSON.

Arguments: URL, identity, and the files of the authority, the certificate and its key.
"""

import json
import sys

import requests

url, identity, authority, certificate, key = sys.argv[1:]
session = requests.Session()
# Otherwise a variable of the environment would take precedence over the authority.
session.trust_env = False
session.verify = authority
session.cert = (certificate, key)


def post(path, body):
    response = session.post(f"{url}/api/v1/auth/{path}", json=body, timeout=20)
    return response.status_code, response.json()


def check(token):
    response = session.get(
        f"{url}/auth", headers={"Authorization": f"Bearer {token}"}, timeout=20
    )
    return response.status_code


steps = {"login": post("tls-cert-auth/login", {"identityId": identity})}
token = steps["login"][1]["accessToken"]
steps["use"] = check(token)
steps["renew"] = post("token/renew", {"accessToken": token})
renewed = steps["renew"][1]["accessToken"]
steps["use renewed"] = check(renewed)
steps["revoke"] = post("token/revoke", {"accessToken": renewed})
steps["use revoked"] = [check(token), check(renewed)]
steps["renew revoked"] = post("token/renew", {"accessToken": token})
print(json.dumps(steps))
