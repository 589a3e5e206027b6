#!/usr/bin/env python3
"""What connections that ask and do not read cost in memory.

    python3 benches/load/memory.py [PROGRAM] [CASE...]

Each case starts a program of its own (target/release/healthcare-backend) on an embedded database, opens
2,000 connections with the smallest receive buffers, has each of them do the same, and shows how far the
program's memory rose above what it was without connections: the most at any moment, and what it was at
the end. Half of the cases share one user, half have 16.
"""

import json
import os
import socket
import sys
import time

from fixture import allow_open_files
from logins import Program

CONNECTIONS = 2000
USERS = 16
ROWS = 120
# How long connections that do not read are watched; the service gives such a one up after 30.
SECONDS = 8
FLOOR_MIB = 64
# Four bytes a character, the longest there is.
LONG = "\U0001f600" * 5000
LARGE = {"name": "Large", "notes": LONG, "allergies": LONG, "medical_history": LONG}
# A control character takes one byte in the database and six in JSON.
ESCAPED = {**LARGE, **dict.fromkeys(("notes", "allergies", "medical_history"), "\x01" * 5000)}
SMALL = {"name": "Small", "notes": "Prefers to be called in the morning. " * 3, "address": "1 Long Lane"}


class Client:
    """A user with patients of each kind."""

    def __init__(self, program: Program, number: int, rows: list[dict]) -> None:
        self.token = program.register(f"user{number}@example.com")
        connection = program.connect()
        for row in rows:
            status, answer = program.post(connection, "/api/patients", row, self.token)
            assert status == 201, answer
        self.last = json.loads(answer)["id"]

    def head(self, method: str, target: str, headers: str = "") -> bytes:
        return (
            f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.token}\r\n{headers}\r\n"
        ).encode()

    def get(self, target: str) -> bytes:
        return self.head("GET", target)

    def send(self, method: str, target: str, body: bytes, left_out: int = 0) -> bytes:
        headers = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        return self.head(method, target, headers) + body[: len(body) - left_out]

    def patient(self) -> str:
        return f"/api/patients/{self.last}"


def unfinished(body: int):
    return lambda client: client.send("POST", "/api/patients", b'{"name":"' + b"x" * body + b'"}', 1)


def head(size: int):
    return lambda client: client.head("GET", "/health/live", f"x: {'y' * size}\r\n")[:-2]


WHOLE_BODY = json.dumps(LARGE).encode() + b" " * (60 << 10)

# The rows of each user, what each connection sends, and whether it reads the answer.
CASES = {
    "idle": ([SMALL], lambda client: client.get("/health/live"), True),
    "patient": ([LARGE], lambda client: client.get(client.patient()) * 4, False),
    "small-pages": ([SMALL] * ROWS, lambda client: client.get("/api/patients?limit=50") * 20, False),
    "small-answers": ([SMALL], lambda client: client.get(client.patient()) * 25, False),
    "page": ([LARGE] * ROWS, lambda client: client.get("/api/patients?limit=100") * 2, False),
    "long-page": ([SMALL] * 1100, lambda client: client.get("/api/patients?limit=1000"), False),
    "list": ([SMALL] * 110 + [LARGE] * ROWS, lambda client: client.get("/api/patients"), False),
    "escaped-list": ([ESCAPED] * ROWS, lambda client: client.get("/api/patients"), False),
    "search": ([LARGE] * ROWS, lambda client: client.get("/api/patients?search=large"), False),
    "updates": (
        [LARGE],
        lambda client: client.send("PATCH", client.patient(), b'{"age":30}') * 3,
        False,
    ),
    "creates": ([SMALL], lambda client: client.send("POST", "/api/patients", WHOLE_BODY), False),
    "head-8k": ([SMALL], head(7 << 10), False),
    "head-30k": ([SMALL], head(23 << 10), False),
    "head-100k": ([SMALL], head(100 << 10), False),
    "body-4k": ([SMALL], unfinished(4000), False),
    "body-250k": ([SMALL], unfinished(250 << 10), False),
    "problems": (
        [SMALL],
        lambda client: client.send(
            "POST",
            "/api/patients",
            json.dumps({f"{n:02}" + "x" * 2500: 1 for n in range(99)}).encode(),
        ),
        False,
    ),
    "after-body": (
        [SMALL],
        lambda client: client.send("POST", "/api/patients", b"[" + b" " * (250 << 10) + b"]"),
        True,
    ),
    "after-answer": ([LARGE], lambda client: client.get(client.patient()), True),
}


def memory(program: Program, name: str) -> float:
    """In MiB."""
    with open(f"/proc/{program.process.pid}/status") as status:
        line = next(line for line in status if line.startswith(name))
    return int(line.split()[1]) / 1024


def read_answer(connection: socket.socket) -> None:
    """Reads one answer that has a length."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(65536)
        if not part:
            return
        answer += part
    head, body = answer.split(b"\r\n\r\n", 1)
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0].split(b":")[1]) - len(body)
    while left > 0:
        left -= len(connection.recv(65536)) or left


def measure(path: str, name: str) -> bool:
    rows, request, reads = CASES[name]
    many = list(CASES).index(name) % 2 == 1
    with Program(path, BCRYPT_COST="4", MAX_CONNECTIONS="4000") as program:
        clients = [Client(program, number, rows) for number in range(USERS if many else 1)]
        time.sleep(1)
        idle = memory(program, "VmRSS")
        with open(f"/proc/{program.process.pid}/clear_refs", "w") as peak:
            peak.write("5")
        connections = []
        for number in range(CONNECTIONS):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect((program.host, program.port))
            if reads:
                connection.sendall(request(clients[number % len(clients)]))
                read_answer(connection)
            connection.setblocking(False)
            connections.append(connection)
        pending = {} if reads else {
            connection: request(clients[number % len(clients)])
            for number, connection in enumerate(connections)
        }
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for connection, left in list(pending.items()):
                try:
                    sent = connection.send(left)
                    pending[connection] = left[sent:]
                    if not pending[connection]:
                        del pending[connection]
                except BlockingIOError:
                    pass
                except OSError:
                    del pending[connection]
            time.sleep(0.1)
        end, peak = memory(program, "VmRSS") - idle, memory(program, "VmHWM") - idle
        for connection in connections:
            connection.close()
    met = peak <= FLOOR_MIB
    print(
        f"{name:>14}  {len(clients):>2} users  idle {idle:5.1f} MiB  peak +{peak:6.1f}  end +{end:6.1f} MiB"
        f"  {end * 1024 / CONNECTIONS:6.1f} KiB a connection  {'' if met else 'TOO MUCH'}",
        flush=True,
    )
    return met


def main() -> None:
    arguments = sys.argv[1:]
    path = arguments.pop(0) if arguments and arguments[0] not in CASES else None
    unknown = [name for name in arguments if name not in CASES]
    if unknown:
        sys.exit(f"no such case: {', '.join(unknown)}\n{__doc__}")
    allow_open_files()
    met = [measure(path or "target/release/healthcare-backend", name) for name in arguments or CASES]
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
