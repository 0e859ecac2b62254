"""Sends HTTP/3 requests over one connection by curl with ngtcp2 and nghttp3, and prints the
responses. Input and output are those of aioquic_or_qh3.py. Requests are sent one after the
other, and `between` is ignored.
"""

import json
import sys

from curl_cffi import CurlHttpVersion, requests

scenario = json.load(sys.stdin)
session = requests.Session(http_version=CurlHttpVersion.V3ONLY, verify=scenario["authority"])


def send(request):
    response = session.request(
        request["method"],
        f"https://localhost:{scenario['port']}{request['path']}",
        headers=dict(request["headers"]),
        data=request["body"].encode() or None,
        timeout=20,
        default_headers=False,
    )
    if response.http_version != CurlHttpVersion.V3:
        raise RuntimeError(f"not HTTP/3: version {response.http_version}")
    headers = [[name.lower(), value] for name, value in response.headers.multi_items()]
    return {"status": response.status_code, "headers": headers, "body": response.content.decode()}


print(json.dumps([[send(request) for request in batch] for batch in scenario["rounds"]]))
