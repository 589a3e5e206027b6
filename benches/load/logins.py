#!/usr/bin/env python3
"""What logins cost others, and what their time tells.

    python3 benches/load/logins.py flood [PROGRAM]    reads beside 200 clients that log in wrongly
    python3 benches/load/logins.py timing [PROGRAM]   unknown address against wrong password

Each starts a program of its own (target/release/healthcare-backend) on an embedded database and stops
it at the end. `flood` needs wrk.
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
ROUNDS = 7
SECONDS = 6


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


async def log_in_wrongly(host: str, port: int, client: int, counts: dict[int, int]) -> None:
    """One client: wrong passwords for ever, waiting as long as it is told to."""
    number = 0
    while True:
        # A fresh address now and then, so that the limit on failures does not end the flood.
        email = f"flood-{client}-{number // 9}@example.com"
        number += 1
        body = json.dumps({"email": email, "password": "wrong password"})
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            f"POST /api/auth/login HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        answer = (await reader.read()).decode()
        writer.close()
        status = int(answer.split(" ", 2)[1])
        counts[status] = counts.get(status, 0) + 1
        wait = re.search(r"retry-after: (\d+)", answer)
        await asyncio.sleep(int(wait[1]) if wait else 0)


async def wrk(url: str, token: str) -> float:
    """The 99th percentile of reads at 16 connections, in milliseconds."""
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}", "--latency", "-H", f"authorization: Bearer {token}"]
    process = await asyncio.create_subprocess_exec(*command, url, stdout=subprocess.PIPE)
    output = (await process.communicate())[0].decode()
    assert "Non-2xx" not in output, output
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


async def flood(program: Program) -> None:
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
    print(f"medians {alone:.2f} and {beside:.2f} ms, ratio {beside / alone:.2f}; logins {counts}")


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
    # The area under the ROC curve is the chance that a known address takes longer than an unknown one.
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
            asyncio.run(flood(program))
    elif mode == "timing":
        limits = {"LOGIN_FAILURES_PER_ADDRESS": "0", "LOGIN_FAILURES_TOTAL": "0"}
        with Program(path, BCRYPT_COST="8", **limits) as program:
            timing(program)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
