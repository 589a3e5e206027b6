#!/usr/bin/env python3
"""What one user's requests cost another user's reads.

    python3 benches/load/neighbours.py [PROGRAM] [NAME ...]

Starts a program of its own (target/release/healthcare-backend) on an embedded database and stops it at
the end. A noisy user keeps 8 connections busy, each with one request after the other, from a process of
its own, in one way after another (all, or those whose names contain a NAME). Beside it, another user
reads one patient 50 times a second, and readiness is asked four times a second. Needs psql.

The floors: the median of the reads is at most 3 times what it is alone, and readiness always answers 200
within 100 ms.
"""

import asyncio
import http.client
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections import Counter

from logins import Program

CONNECTIONS = 8
ROUNDS = 3
SECONDS = 4
READ_EVERY = 0.02
READY_EVERY = 0.25
FLOOR = 3
READY_FLOOR = 0.1

# 20,000 doctors; a patient with all of them; 300,000 patients and as many mappings of one user. 200
# patients of another, each 98 KB of JSON: a control character is six bytes there.
FILL = """
INSERT INTO doctors (created_by, name, specialization)
SELECT :noisy, 'Doctor ' || n, 'Surgery' FROM generate_series(1, 20000) AS n;

INSERT INTO patients (created_by, name, email, phone)
SELECT :noisy, 'Patient ' || n, 'patient' || n || '@example.com', '+44 ' || n
FROM generate_series(1, 300000) AS n;

INSERT INTO mappings (created_by, patient_id, doctor_id)
SELECT :noisy, (SELECT min(id) FROM patients WHERE created_by = :noisy), id FROM doctors;

WITH numbered AS (SELECT id, row_number() OVER (ORDER BY id) AS n FROM doctors)
INSERT INTO mappings (created_by, patient_id, doctor_id)
SELECT :noisy, patients.id, numbered.id
FROM patients
JOIN numbered ON numbered.n = 1 + patients.id % 20000
WHERE created_by = :noisy
ORDER BY patients.id
OFFSET 1 LIMIT 280000;

INSERT INTO patients (created_by, name, allergies, medical_history, notes, metadata)
SELECT :large, 'Large', repeat(chr(1), 5000), repeat(chr(1), 5000), repeat(chr(1), 5000),
    json_build_object('text', repeat('x', 8000))
FROM generate_series(1, 200);

VACUUM ANALYZE patients, doctors, mappings;
"""


class Database:
    """The embedded database of a program, by psql."""

    def __init__(self, program: Program) -> None:
        socket = os.path.join(program.folder.name, "data", "run")
        # Root's PostgreSQL lets only its own user in.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.command = [*user, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", socket]
        self.command += ["-U", "healthcare", "healthcare"]

    def run(self, sql: str, **variables: int) -> str:
        named = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
        done = subprocess.run(
            [*self.command, *named], input=sql, text=True, stdout=subprocess.PIPE, check=True, cwd="/"
        )
        return done.stdout.strip()

    def lock(self, patient: int) -> subprocess.Popen:
        """A row that nobody else can change until the input of the process is closed."""
        holder = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        holder.stdin.write(f"BEGIN;\nSELECT id FROM patients WHERE id = {patient} FOR UPDATE;\n")
        holder.stdin.flush()
        holder.stdout.readline()
        return holder


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Reads one answer to its end and tells its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
    return status


async def repeat(host: str, port: int, request: bytes, counts: Counter, until: float) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    while time.monotonic() < until:
        writer.write(request)
        counts[await read_answer(reader)] += 1
    writer.close()


def make_noise(host: str, port: int, request: bytes, connections: int, counts) -> None:
    """What the noisy user's process does. It tells the statuses it has seen."""

    async def run() -> Counter:
        seen: Counter = Counter()
        until = time.monotonic() + SECONDS + 1
        tasks = [repeat(host, port, request, seen, until) for _ in range(connections)]
        await asyncio.gather(*tasks)
        return seen

    counts.put(asyncio.run(run()))


class Measured:
    """Times of reads and of readiness, in seconds."""

    def __init__(self) -> None:
        self.reads: list[float] = []
        self.ready: list[float] = []
        self.statuses: Counter = Counter()

    def run(self, program: Program, target: str, token: str) -> None:
        reads, health = program.connect(), program.connect()
        started = time.monotonic()
        next_read, next_ready = started, started
        while (now := time.monotonic()) < started + SECONDS:
            if now < next_read:
                time.sleep(next_read - now)
            status = self.time(reads, target, token, self.reads)
            assert status == 200, f"{status} for a read"
            # A read that is late does not make the next ones come in a bunch.
            next_read = max(next_read + READ_EVERY, time.monotonic())
            if time.monotonic() >= next_ready:
                self.statuses[self.time(health, "/health/ready", "", self.ready)] += 1
                next_ready = time.monotonic() + READY_EVERY

    @staticmethod
    def time(
        connection: http.client.HTTPConnection, target: str, token: str, times: list[float]
    ) -> int:
        started = time.perf_counter()
        connection.request("GET", target, headers={"authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - started)
        return answer.status

    def percentile(self, percent: int) -> float:
        """Of the reads, in milliseconds."""
        return statistics.quantiles(self.reads, n=100)[percent - 1] * 1000


def request(token: str, target: str, method: str = "GET", body: str = "") -> bytes:
    return (
        f"{method} {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def user(program: Program, name: str) -> tuple[str, int]:
    """A token and the id of its user."""
    token = program.register(f"{name}@example.com")
    connection = program.connect()
    connection.request("GET", "/api/auth/me", headers={"authorization": f"Bearer {token}"})
    return token, json.loads(connection.getresponse().read())["id"]


def compare(
    program: Program,
    name: str,
    noise: bytes,
    connections: int,
    target: str,
    token: str,
) -> bool:
    alone, beside, counts = Measured(), Measured(), Counter()
    for _ in range(ROUNDS):
        alone.run(program, target, token)
        queue: multiprocessing.Queue = multiprocessing.Queue()
        arguments = (program.host, program.port, noise, connections, queue)
        noisy = multiprocessing.Process(target=make_noise, args=arguments)
        noisy.start()
        time.sleep(0.5)
        beside.run(program, target, token)
        counts += queue.get()
        noisy.join()
        time.sleep(0.5)
    ratio = beside.percentile(50) / alone.percentile(50)
    ready = max(beside.ready)
    met = ratio <= FLOOR and ready <= READY_FLOOR and set(beside.statuses) == {200}
    print(
        f"{name}\n"
        f"  reads: p50 {alone.percentile(50):.2f} alone, {beside.percentile(50):.2f} ms beside, "
        f"{ratio:.2f} x; p99 {alone.percentile(99):.2f} and {beside.percentile(99):.2f} ms, "
        f"{beside.percentile(99) / alone.percentile(99):.2f} x\n"
        f"  ready: at most {ready * 1000:.1f} ms, {dict(beside.statuses)}\n"
        f"  noise: {dict(counts)} in {ROUNDS * (SECONDS + 1)} s; floors {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "target/release/healthcare-backend"
    wanted = sys.argv[2:] or [""]
    with Program(path) as program:
        (noisy, noisy_id), (large, large_id) = user(program, "noisy"), user(program, "large")
        token, _ = user(program, "reader")
        status, answer = program.post(program.connect(), "/api/patients", {"name": "Grace"}, token)
        assert status == 201, answer
        target = f"/api/patients/{json.loads(answer)['id']}"
        database = Database(program)
        database.run(FILL, noisy=noisy_id, large=large_id)
        first = "SELECT min(id) FROM {} WHERE created_by = :noisy"
        patient = int(database.run(first.format("patients") + ";", noisy=noisy_id))
        doctor = int(database.run(first.format("doctors") + ";", noisy=noisy_id))
        mappings = "/api/mappings"
        rows = [
            ("a doctor of a patient with 20,000", request(noisy, f"{mappings}/{patient}?limit=1")),
            (
                "mappings of a patient among 300,000",
                request(noisy, f"{mappings}?patient_id={patient + 299_999}"),
            ),
            ("mappings of a doctor among 300,000", request(noisy, f"{mappings}?doctor_id={doctor}")),
            (
                "mappings of a patient and a doctor",
                request(noisy, f"{mappings}?patient_id={patient}&doctor_id={doctor}"),
            ),
            ("pages of 98 KB rows", request(large, "/api/patients?limit=100")),
            ("single 98 KB rows", request(large, "/api/patients?limit=1")),
            ("whole list of 300,000 patients", request(noisy, "/api/patients")),
            (
                "searches of 300,000 patients that find nothing",
                request(noisy, "/api/patients?search=nobody"),
            ),
            (
                "searches of 20,000 doctors that find nothing",
                request(noisy, "/api/doctors?search=nobody"),
            ),
        ]
        met = [
            compare(program, name, noise, CONNECTIONS, target, token)
            for name, noise in rows
            if any(part in name for part in wanted)
        ]
        name = "40 updates of one locked row"
        if any(part in name for part in wanted):
            holder = database.lock(patient)
            noise = request(noisy, f"/api/patients/{patient}", "PATCH", '{"age":1}')
            met.append(compare(program, name, noise, 40, target, token))
            holder.stdin.close()
            holder.wait()
        sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
