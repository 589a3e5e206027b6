"""The instruments: wrk, pgbench, and what the system says of a process."""

import json
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from fixture import LOAD, Data, Program, Fixture

# wrk and pgbench have as many threads as there are cores, but a client never has more than one.
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Sample:
    """One run of wrk or pgbench."""

    # Requests or transactions in a second.
    rate: float
    # Microseconds. pgbench only tells the mean, which stands for the median here.
    p50: float
    p99: float
    # Answers that were not 2xx, and requests that had none.
    wrong: int


def wrk(
    program: Program, script: str, connections: int, seconds: float, targets: Path | None = None
) -> Sample:
    url = program.url + ("/health/live" if script == "report" else "")
    threads = min(CORES, connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{round(seconds)}", "--latency"]
    environment = dict(os.environ, TARGETS=str(targets or ""))
    done = subprocess.run(
        [*command, "-s", LOAD / f"{script}.lua", url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    program.forget_log()
    found = re.search(r"^result (.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
    result = json.loads(found[1])
    rate = result["requests"] / result["seconds"]
    return Sample(rate, result["p50"], result["p99"], result["not_2xx"] + result["broken"])


def pgbench(
    fixture: Fixture, script: str, clients: int, seconds: float, data: Data, **variables: int
) -> Sample:
    command = [fixture.bin / "pgbench", "-n", "-M", "prepared", f"-c{clients}"]
    command += [f"-j{min(CORES, clients)}", f"-T{round(seconds)}"]
    variables = {"users": data.users, "each": data.each} | variables
    command += [f"-D{name}={value}" for name, value in variables.items()]
    command += ["-f", LOAD / f"{script}.sql"]
    done = subprocess.run(
        [*command, *fixture.connection(data)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    latency = re.search(r"^latency average = ([\d.]+) ms", done.stdout, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not rate or not latency:
        raise SystemExit(f"pgbench failed: {done.stdout}{done.stderr}")
    mean = float(latency[1]) * 1000
    return Sample(float(rate[1]), mean, mean, int(failed[1]) if failed else 0)


def resident(pid: int, what: str = "VmRSS") -> int:
    """Bytes of memory in use now, or with VmHWM at most since the last `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{what}:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Connection:
    """A keep-alive connection that leaves the service alone between requests."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)

    def get(self, path: str, token: str = "") -> int:
        """The status of the answer, which is read whole."""
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: load\r\n{authorization}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._some()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)^content-length: (\d+)\r?$", head, re.MULTILINE)[1])
        while len(body) < length:
            body += self._some()
        return int(head.split(b" ", 2)[1])

    def _some(self) -> bytes:
        some = self.socket.recv(1 << 16)
        if not some:
            raise ConnectionError("the service has closed the connection")
        return some

    def close(self) -> None:
        self.socket.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def seconds_to_first_200(start, port: int) -> float:
    """How long it takes from `start()` until the service, on its database, answers."""
    begun = time.perf_counter()
    start()
    while time.perf_counter() - begun < 30:
        try:
            connection = Connection(f"127.0.0.1:{port}")
            status = connection.get("/health/ready")
            connection.close()
            if status == 200:
                return time.perf_counter() - begun
        except ConnectionError:
            pass
        time.sleep(0.001)
    raise SystemExit("the service does not start")
