"""Asks a server over HTTP/3 by aioquic, or by qh3 that began as a copy of it, over one
connection, and prints the answers.

Started with the name of the library, and on standard input:
    {"port": 443, "authority": "ca.pem", "rounds": [[{"method": "GET", "path": "/",
     "headers": [["name", "value"]], "body": ""}]], "between": ["request_key_update"]}

The requests of a round go out at once. Between two rounds the connection does what
`between` says. Printed is, for each round, a list of
    {"status": 200, "headers": [["name", "value"]], "body": ""}
"""

import asyncio
import importlib
import json
import sys

LIBRARY = sys.argv[1]


def of_library(path, name):
    return getattr(importlib.import_module(f"{LIBRARY}.{path}"), name)


connect = of_library("asyncio.client", "connect")
Protocol = of_library("asyncio.protocol", "QuicConnectionProtocol")
H3Connection = of_library("h3.connection", "H3Connection")
HeadersReceived = of_library("h3.events", "HeadersReceived")
DataReceived = of_library("h3.events", "DataReceived")
Configuration = of_library("quic.configuration", "QuicConfiguration")
StreamReset = of_library("quic.events", "StreamReset")
ConnectionTerminated = of_library("quic.events", "ConnectionTerminated")


class Client(Protocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = H3Connection(self._quic)
        self.waiting = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.waiting:
            self.fail([event.stream_id], f"stream reset: {event.error_code:#x}")
        if isinstance(event, ConnectionTerminated):
            self.fail(list(self.waiting), f"{event.error_code:#x} {event.reason_phrase}")
        for heard in self.http.handle_event(event):
            if getattr(heard, "stream_id", None) in self.waiting:
                self.take(heard)

    def fail(self, streams, why):
        for stream in streams:
            _, done = self.waiting.pop(stream)
            done.set_exception(RuntimeError(why))

    def take(self, heard):
        answer, done = self.waiting[heard.stream_id]
        if isinstance(heard, HeadersReceived):
            for name, value in heard.headers:
                if name == b":status":
                    answer["status"] = int(value)
                else:
                    answer["headers"].append([name.decode(), value.decode()])
        if isinstance(heard, DataReceived):
            answer["body"] += heard.data.decode()
        if heard.stream_ended:
            del self.waiting[heard.stream_id]
            done.set_result(answer)

    def ask(self, request, authority):
        stream = self._quic.get_next_available_stream_id()
        body = request["body"].encode()
        pseudo = {":method": request["method"], ":scheme": "https", ":authority": authority, ":path": request["path"]}
        fields = [*pseudo.items(), *request["headers"]]
        if body:
            fields.append(("content-length", str(len(body))))
        fields = [(name.encode(), value.encode()) for name, value in fields]
        self.http.send_headers(stream, fields, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        done = asyncio.get_running_loop().create_future()
        self.waiting[stream] = ({"headers": [], "body": ""}, done)
        return done


async def main(wanted):
    configuration = Configuration(is_client=True, alpn_protocols=["h3"], server_name="localhost")
    configuration.load_verify_locations(cafile=wanted["authority"])
    rounds = []
    async with connect("127.0.0.1", wanted["port"], configuration=configuration, create_protocol=Client) as client:
        for number, requests in enumerate(wanted["rounds"]):
            if number > 0:
                for deed in wanted["between"]:
                    getattr(client, deed)()
            answers = [client.ask(request, f"localhost:{wanted['port']}") for request in requests]
            client.transmit()
            rounds.append(await asyncio.wait_for(asyncio.gather(*answers), 20))
    print(json.dumps(rounds))


asyncio.run(main(json.load(sys.stdin)))
