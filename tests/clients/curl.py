"""Asks a server over HTTP/3 by curl over ngtcp2 and nghttp3, over one connection, and
prints the answers. What it is told and what it prints is as of aioquic_or_qh3.py, but
that it asks one thing after the other, and knows no deeds.
"""

import json
import sys

from curl_cffi import CurlHttpVersion, requests

wanted = json.load(sys.stdin)
session = requests.Session(http_version=CurlHttpVersion.V3ONLY, verify=wanted["authority"])


def ask(request):
    answer = session.request(
        request["method"],
        f"https://localhost:{wanted['port']}{request['path']}",
        headers=dict(request["headers"]),
        data=request["body"].encode() or None,
        timeout=20,
        default_headers=False,
    )
    if answer.http_version != CurlHttpVersion.V3:
        raise RuntimeError(f"it went by version {answer.http_version}")
    headers = [[name.lower(), value] for name, value in answer.headers.multi_items()]
    return {"status": answer.status_code, "headers": headers, "body": answer.content.decode()}


print(json.dumps([[ask(request) for request in batch] for batch in wanted["rounds"]]))
