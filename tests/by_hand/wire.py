"""A WebSocket for the scripts beside this file."""
import base64
import json
import os
import socket
import ssl
import struct


class Socket:
    """One connection. Payloads of 64 KiB at most."""

    def __init__(self, port, path="/", headers="", source="127.0.0.1", buffer=None, tls=False):
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(20)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        if tls:
            self.socket = ssl._create_unverified_context().wrap_socket(self.socket)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
        )
        self.socket.sendall(head.encode())

    def answer(self):
        """The head of the answer."""
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.socket.recv(1)
            if not more:
                break
            head += more
        return head.decode()

    def send(self, message):
        payload = json.dumps(message).encode()
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
        # A mask of zeros leaves the payload as it is.
        self.socket.sendall(b"\x81" + size + bytes(4) + payload)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def next(self):
        """The next message; pings are passed over."""
        while True:
            first, size = self.exactly(2)
            if size == 126:
                (size,) = struct.unpack(">H", self.exactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.exactly(8))
            payload = self.exactly(size)
            if first & 0xF == 1:
                return json.loads(payload)
            if first & 0xF == 8:
                raise EOFError
