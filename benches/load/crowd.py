#!/usr/bin/env python3
"""What one user with very many connections costs another user who has one.

    python3 benches/load/crowd.py [PROGRAM ...]

Starts each program (target/release/healthcare-backend) on a database of 100 users and 100,000 patients.
One user keeps 2,048 and then 8,192 connections busy, by wrk, first with new patients and then with gets
of single ones. Another user meanwhile does one thing after the other on one connection; its medians
are printed in milliseconds. Needs what `make load` needs.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fixture import MAIN, Fixture, Program, allow_open_files

CROWDS = (2048, 8192)
WARM_UP = 2
SECONDS = 6
PAUSE = 0.002
# The last user's first patient; see fill.sql.
OTHERS_PATIENT = MAIN.patients - MAIN.each + 1
REQUESTS = {
    "create": ("POST", "/api/patients", json.dumps({"name": "Ada Lovelace"})),
    "get": ("GET", f"/api/patients/{OTHERS_PATIENT}", None),
    "page": ("GET", "/api/patients?limit=10", None),
    "live": ("GET", "/health/live", None),
}


def ask(service: Program, token: str, seconds: float) -> dict[str, list[float]]:
    """The times of one request after the other, in milliseconds."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(service.address, timeout=30)
    times: dict[str, list[float]] = {name: [] for name in REQUESTS}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, (method, path, body) in REQUESTS.items():
            sent = time.perf_counter()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in (200, 201):
                raise SystemExit(f"{method} {path}: {answer.status}")
            times[name].append(1e3 * (time.perf_counter() - sent))
            time.sleep(PAUSE)
    connection.close()
    return times


def crowd(service: Program, token: str, script: str, connections: int) -> subprocess.Popen:
    targets = {"TOKEN": token, "FIRST": "1", "LAST": str(MAIN.each)}
    duration = f"-d{WARM_UP + SECONDS + 1}"
    command = ["wrk", "-t1", f"-c{connections}", duration, "--timeout=10", "-s"]
    command += [str(Path(__file__).parent / f"{script}.lua"), service.url]
    return subprocess.Popen(command, env=os.environ | targets, stdout=subprocess.DEVNULL)


def show(name: str, times: dict[str, list[float]]) -> None:
    medians = [f"{what} {statistics.median(of):6.1f}" for what, of in times.items()]
    print(f"{name:24}", *medians, flush=True)


def main() -> None:
    allow_open_files()
    programs = [Path(name).resolve() for name in sys.argv[1:]] or [Fixture.program]
    for program in programs:
        print(program.name, flush=True)
        with Fixture(program=program) as fixture:
            fixture.fill(MAIN)
            service = fixture.start([program], MAIN)
            service.wait_until_it_listens()
            many, other = fixture.tokens[MAIN][0], fixture.tokens[MAIN][-1]
            show("alone", ask(service, other, SECONDS))
            for script in ("create", "get"):
                for connections in CROWDS:
                    crowding = crowd(service, many, script, connections)
                    time.sleep(WARM_UP)
                    show(f"{script}, {connections} connections", ask(service, other, SECONDS))
                    crowding.wait()


if __name__ == "__main__":
    main()
