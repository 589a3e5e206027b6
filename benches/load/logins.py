#!/usr/bin/env python3
"""What logins cost others, and what their time tells.

    python3 benches/load/logins.py flood [PROGRAM]    reads beside 200 clients that log in wrongly
    python3 benches/load/logins.py beside [PROGRAM]   logins beside 400 requests/s to /health/live
    python3 benches/load/logins.py timing [PROGRAM]   unknown address against wrong password

Each starts a program of its own (target/release/healthcare-backend) on an embedded database and stops
it at the end. `flood` needs wrk. ROUNDS (7) and DURATION (6), the seconds of one run of wrk, may be set
in the environment. `flood` and `beside` end with status 1 if a floor is missed.
"""

import asyncio
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

PASSWORD = "correct horse"
CLIENTS = 200
ROUNDS = int(os.environ.get("ROUNDS", 7))
DURATION = int(os.environ.get("DURATION", 6))
# The load that logins are measured beside: requests a second, over so many connections.
RATE = 400
CONNECTIONS = 8
# Logins one after the other in each half of a round, and at once.
LOGINS = 8
BURST = 20
# How much longer anything may take beside the load than alone.
FLOOR = 2.0


class Program:
    """A running service with a database of its own."""

    def __init__(self, program: str, **settings: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        # Root's PostgreSQL runs as another user, who must be able to pass through.
        os.chmod(self.folder.name, 0o711)
        environment = {
            **os.environ,
            "DATA_DIR": os.path.join(self.folder.name, "data"),
            "PORT": "0",
            **settings,
        }
        self.log = open(os.path.join(self.folder.name, "log"), "w+")
        self.process = subprocess.Popen([program], env=environment, stdout=self.log)
        deadline = time.monotonic() + 60
        while not (found := re.search(r"listening address=(\S+):(\d+)", self.said())):
            if time.monotonic() > deadline or self.process.poll() is not None:
                sys.exit("the program does not start")
            time.sleep(0.05)
        self.host, self.port = found[1], int(found[2])

    def said(self) -> str:
        with open(self.log.name) as log:
            return log.read()

    def post(self, connection: http.client.HTTPConnection, path: str, body: dict, token: str = ""):
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        if not token:
            del headers["authorization"]
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port)

    def register(self, email: str) -> str:
        body = {"name": "Load", "email": email, "password": PASSWORD}
        status, answer = self.post(self.connect(), "/api/auth/register", body)
        assert status == 201, answer
        return json.loads(answer)["token"]

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.folder.cleanup()


async def log_in(host: str, port: int, email: str, password: str) -> tuple[int, str]:
    """The status of a login and its whole answer, over a connection of its own."""
    body = json.dumps({"email": email, "password": password})
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST /api/auth/login HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split(" ", 2)[1]), answer


async def log_in_wrongly(host: str, port: int, client: int, counts: dict[int, int]) -> None:
    """One client: wrong passwords for ever, waiting as long as it is told to."""
    number = 0
    while True:
        # A fresh address now and then, so that the limit on failures does not end the flood.
        email = f"flood-{client}-{number // 9}@example.com"
        number += 1
        status, answer = await log_in(host, port, email, "wrong password")
        counts[status] = counts.get(status, 0) + 1
        wait = re.search(r"retry-after: (\d+)", answer)
        await asyncio.sleep(int(wait[1]) if wait else 0)


async def wrk(url: str, token: str) -> float:
    """The 99th percentile of reads at 16 connections, in milliseconds."""
    command = ["wrk", "-t1", "-c16", f"-d{DURATION}", "--latency", "-H", f"authorization: Bearer {token}"]
    process = await asyncio.create_subprocess_exec(*command, url, stdout=subprocess.PIPE)
    output = (await process.communicate())[0].decode()
    assert "Non-2xx" not in output, output
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


async def flood(program: Program) -> bool:
    token = program.register("reader@example.com")
    status, answer = program.post(program.connect(), "/api/patients", {"name": "Grace"}, token)
    assert status == 201, answer
    url = f"http://{program.host}:{program.port}/api/patients/{json.loads(answer)['id']}"
    counts: dict[int, int] = {}
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    await wrk(url, token)
    for _ in range(ROUNDS):
        alone = await wrk(url, token)
        clients = [
            asyncio.create_task(log_in_wrongly(program.host, program.port, client, counts))
            for client in range(CLIENTS)
        ]
        await asyncio.sleep(2)
        beside = await wrk(url, token)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await asyncio.sleep(6)
        times["alone"].append(alone)
        times["beside"].append(beside)
        print(f"p99 of reads: {alone:.2f} ms alone, {beside:.2f} ms beside the flood")
    alone, beside = (statistics.median(values) for values in times.values())
    print(f"medians {alone:.2f} and {beside:.2f} ms; logins by status {counts}")
    return report("p99 of reads beside the flood to that alone", beside / alone, FLOOR)


def report(what: str, result: float, floor: float) -> bool:
    met = result <= floor
    print(f"{what}: {result:.2f}, at most {floor:.2f}: {'met' if met else 'MISSED'}")
    return met


async def ask_at_a_rate(host: str, port: int, rate: float, counts: dict[int, int]) -> None:
    """One connection: so many requests a second to /health/live for ever."""
    reader, writer = await asyncio.open_connection(host, port)
    due = time.monotonic()
    while True:
        writer.write(f"GET /health/live HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await reader.readexactly(int(re.search(r"content-length: (\d+)", head)[1]))
        status = int(head.split(" ", 2)[1])
        counts[status] = counts.get(status, 0) + 1
        # What comes late is not made up for: no burst follows.
        due = max(due + 1 / rate, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


class Load:
    """Requests at a steady rate for as long as this is entered."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.counts: dict[int, int] = {}
        self.seconds = 0.0

    async def __aenter__(self) -> None:
        self.started = time.monotonic()
        ask = (self.program.host, self.program.port, RATE / CONNECTIONS, self.counts)
        self.tasks = [asyncio.create_task(ask_at_a_rate(*ask)) for _ in range(CONNECTIONS)]
        await asyncio.sleep(1)

    async def __aexit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self.started
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def measure_logins(program: Program, emails: list[str]) -> tuple[list[float], dict[int, int]]:
    """The times of logins one after the other, in seconds, and what so many at once are answered."""
    times = []
    for _ in range(LOGINS):
        started = time.perf_counter()
        status, answer = await log_in(program.host, program.port, emails[0], PASSWORD)
        times.append(time.perf_counter() - started)
        assert status == 200, answer
    burst = [log_in(program.host, program.port, email, PASSWORD) for email in emails]
    statuses = [status for status, _ in await asyncio.gather(*burst)]
    return times, {status: statuses.count(status) for status in sorted(set(statuses))}


async def beside(program: Program) -> bool:
    emails = [f"user{number}@example.com" for number in range(BURST)]
    for email in emails:
        program.register(email)
    load = Load(program)
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    refused: dict[str, list[int]] = {"alone": [], "beside": []}
    await measure_logins(program, emails)
    for round in range(ROUNDS):
        for kind in ("alone", "beside") if round % 2 else ("beside", "alone"):
            if kind == "beside":
                async with load:
                    measured, statuses = await measure_logins(program, emails)
            else:
                measured, statuses = await measure_logins(program, emails)
            times[kind].append(statistics.median(measured))
            refused[kind].append(statuses.get(503, 0))
            print(
                f"{kind}: a login {times[kind][-1] * 1000:.0f} ms (median of {LOGINS}), "
                f"{BURST} at once by status {statuses}"
            )
    rate = sum(load.counts.values()) / load.seconds
    print(f"the load was {rate:.0f} requests/s, by status {load.counts}")
    alone, loaded = (statistics.median(values) for values in times.values())
    print(f"medians {alone * 1000:.0f} and {loaded * 1000:.0f} ms")
    met = report(f"a login beside {RATE} requests/s to one alone", loaded / alone, FLOOR)
    alone, loaded = (statistics.median(values) for values in refused.values())
    return report(f"503 of {BURST} logins at once beside them", loaded, alone) and met


def timing(program: Program) -> None:
    program.register("known@example.com")
    connection = program.connect()
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for number in range(400):
        for kind in ("known", "unknown") if number % 2 else ("unknown", "known"):
            body = {"email": f"{kind}@example.com", "password": "wrong password"}
            started = time.perf_counter()
            status, answer = program.post(connection, "/api/auth/login", body)
            times[kind].append(time.perf_counter() - started)
            assert status == 401, answer
    # The area under the ROC curve is the chance that a known address takes longer than an unknown
    # one.
    longer = sum(
        (known > unknown) + 0.5 * (known == unknown)
        for known in times["known"]
        for unknown in times["unknown"]
    )
    for kind, values in times.items():
        print(f"{kind}: median {statistics.median(values) * 1000:.2f} ms")
    print(f"area under the ROC curve {longer / 400**2:.3f}")


def main() -> None:
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    path = sys.argv[2] if len(sys.argv) > 2 else "target/release/healthcare-backend"
    if mode == "flood":
        with Program(path) as program:
            met = asyncio.run(flood(program))
        sys.exit(not met)
    elif mode == "beside":
        with Program(path) as program:
            met = asyncio.run(beside(program))
        sys.exit(not met)
    elif mode == "timing":
        limits = {"LOGIN_FAILURES_PER_ADDRESS": "0", "LOGIN_FAILURES_TOTAL": "0"}
        with Program(path, BCRYPT_COST="8", **limits) as program:
            timing(program)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
