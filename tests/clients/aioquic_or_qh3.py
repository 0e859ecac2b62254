"""Sends HTTP/3 requests over one connection by aioquic, or by its fork qh3, and prints the
responses.

The argument is the name of the library. Standard input:
    {"port": 443, "authority": "ca.pem", "rounds": [[{"method": "GET", "path": "/",
     "headers": [["name", "value"]], "body": ""}]], "between": ["request_key_update"]}

The requests of a round are sent concurrently. Between two rounds the client calls the
methods of the connection named in `between`. The output is, for each round, a list of
    {"status": 200, "headers": [["name", "value"]], "body": ""}
"""

import asyncio
import importlib
import json
import sys

LIBRARY = sys.argv[1]


def import_from(path, name):
    return getattr(importlib.import_module(f"{LIBRARY}.{path}"), name)


connect = import_from("asyncio.client", "connect")
Protocol = import_from("asyncio.protocol", "QuicConnectionProtocol")
H3Connection = import_from("h3.connection", "H3Connection")
HeadersReceived = import_from("h3.events", "HeadersReceived")
DataReceived = import_from("h3.events", "DataReceived")
Configuration = import_from("quic.configuration", "QuicConfiguration")
StreamReset = import_from("quic.events", "StreamReset")
ConnectionTerminated = import_from("quic.events", "ConnectionTerminated")


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
        for received in self.http.handle_event(event):
            if getattr(received, "stream_id", None) in self.waiting:
                self.handle(received)

    def fail(self, streams, why):
        for stream in streams:
            _, done = self.waiting.pop(stream)
            done.set_exception(RuntimeError(why))

    def handle(self, received):
        response, done = self.waiting[received.stream_id]
        if isinstance(received, HeadersReceived):
            for name, value in received.headers:
                if name == b":status":
                    response["status"] = int(value)
                else:
                    response["headers"].append([name.decode(), value.decode()])
        if isinstance(received, DataReceived):
            response["body"] += received.data.decode()
        if received.stream_ended:
            del self.waiting[received.stream_id]
            done.set_result(response)

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


async def main(scenario):
    configuration = Configuration(is_client=True, alpn_protocols=["h3"], server_name="localhost")
    configuration.load_verify_locations(cafile=scenario["authority"])
    rounds = []
    async with connect("127.0.0.1", scenario["port"], configuration=configuration, create_protocol=Client) as client:
        for number, requests in enumerate(scenario["rounds"]):
            if number > 0:
                for method in scenario["between"]:
                    getattr(client, method)()
            responses = [client.ask(request, f"localhost:{scenario['port']}") for request in requests]
            client.transmit()
            rounds.append(await asyncio.wait_for(asyncio.gather(*responses), 20))
    print(json.dumps(rounds))


asyncio.run(main(json.load(sys.stdin)))
