"""What is measured: a PostgreSQL with its databases, and the programs that use it.

All of it lives in one folder and ends with the fixture.
"""

import glob
import http.client
import json
import os
import pwd
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

LOAD = Path(__file__).resolve().parent
ROOT = LOAD.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()

# Durable, as the service promises to be, and the same for everybody who is measured.
SERVER_SETTINGS = [
    "fsync=on",
    "synchronous_commit=on",
    "max_connections=200",
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "listen_addresses=",
]

# How far away the far database is, each way.
DISTANCE_MICROSECONDS = 500


def allow_open_files() -> None:
    """Thousands of clients need as many open files as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass(frozen=True)
class Data:
    """What a database holds: `each` patients of every user, in the order of the users."""

    name: str
    users: int
    patients: int
    each: int
    doctors: int = 1000
    # So many patients of each user have three doctors.
    mapped: int = 100


MAIN = Data("main", users=100, patients=100_000, each=1_000)
SMALL = Data("small", users=10, patients=10_000, each=1_000)
LARGE = Data("large", users=1_000, patients=1_000_000, each=1_000)
# One user with a million patients, another with a tenth of that.
LONG = Data("long", users=2, patients=1_100_000, each=1_000_000)


@dataclass
class Program:
    """A program that runs. Its output goes to a file, as a service's log does."""

    process: subprocess.Popen
    log: Path
    address: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"listening address=(\S+)", self.log.read_text())
            if found:
                self.address = found[1]
                return
            time.sleep(0.01)
        raise SystemExit(f"{self.process.args} does not start: {self.log.read_text()}")

    def forget_log(self) -> None:
        """Keeps the log from filling the disk; it is only ever appended to."""
        os.truncate(self.log, 0)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass
class Fixture:
    """Starts what is asked for, once, and ends all of it at the end."""

    program: Path = TARGET / "release/healthcare-backend"
    secret: str = field(default_factory=lambda: secrets.token_hex(32))
    tokens: dict[Data, list[str]] = field(default_factory=dict)
    _services: dict[Data, Program] = field(default_factory=dict)
    _files: int = 0

    def __enter__(self) -> "Fixture":
        self._exit = ExitStack()
        with ExitStack() as failing:
            failing.push(self._exit)
            # Not /tmp, which may be memory: then nothing would be durable. PostgreSQL may have to
            # run as another user, who must be able to pass through.
            place = tempfile.mkdtemp(
                prefix="healthcare-load-", dir=os.environ.get("TMPDIR", "/var/tmp")
            )
            self.folder = Path(place)
            self.folder.chmod(0o711)
            self._exit.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._start_postgresql()
            failing.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._exit.__exit__(*failure)

    # PostgreSQL

    def _start_postgresql(self) -> None:
        self.bin = find_postgresql()
        self.sockets = self.folder / "postgresql"
        self.sockets.mkdir(mode=0o755)
        # It refuses to run as root.
        user = (
            {"user": "postgres", "group": "postgres", "extra_groups": []}
            if os.getuid() == 0
            else {}
        )
        if user:
            owner = pwd.getpwnam("postgres")
            os.chown(self.sockets, owner.pw_uid, owner.pw_gid)
        data = str(self.sockets / "data")
        initdb = [self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        run([*initdb, "--encoding=UTF8", "--locale=C.UTF-8"], cwd=self.sockets, **user)
        settings = [*SERVER_SETTINGS, f"unix_socket_directories={self.sockets}"]
        with open(self.folder / "postgresql.log", "wb") as log:
            server = subprocess.Popen(
                [self.bin / "postgres", "-D", data, *(f"-c{setting}" for setting in settings)],
                cwd=self.sockets,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **user,
            )
        self._exit.callback(server.wait)
        # At once, as nothing of it is kept; unlike a kill this frees its shared memory.
        self._exit.callback(server.send_signal, signal.SIGQUIT)
        ready = [self.bin / "pg_isready", "-q", "-h", str(self.sockets)]
        deadline = time.monotonic() + 30
        while subprocess.run(ready, check=False).returncode != 0:
            if time.monotonic() > deadline or server.poll() is not None:
                raise SystemExit((self.folder / "postgresql.log").read_text())
            time.sleep(0.05)

    def connection(self, data: Data) -> list[str]:
        """Arguments for PostgreSQL's own programs."""
        return ["-h", str(self.sockets), "-U", "postgres", data.name]

    def database_url(self, data: Data) -> str:
        return f"postgres:///{data.name}?host={self.sockets}&user=postgres"

    def far_database_url(self, distance: Program, data: Data) -> str:
        return f"postgres://postgres@{distance.address}/{data.name}"

    # Programs

    def start(self, command: list[str | Path], data: Data | None, **settings: str) -> Program:
        """Starts a program with nothing in its environment but what it needs, and settings."""
        environment = {"PATH": os.environ["PATH"], "PORT": "0", "JWT_SECRET": self.secret}
        if data:
            environment["DATABASE_URL"] = self.database_url(data)
        self._files += 1
        log = self.folder / f"program-{self._files}.log"
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for this process, which then stops them in order.
                start_new_session=True,
            )
        program = Program(process, log)
        self._exit.callback(program.stop)
        return program

    def fresh_service(self, data: Data, **settings: str) -> Program:
        self.fill(data)
        service = self.start([self.program], data, **settings)
        service.wait_until_it_listens()
        return service

    def service(self, data: Data = MAIN) -> Program:
        """The service with its default settings, on a database of its own."""
        if data not in self._services:
            self._services[data] = self.fresh_service(data)
        return self._services[data]

    def stop_service(self, data: Data) -> None:
        if data in self._services:
            self._services.pop(data).stop()

    def axum(self, pool_size: int, **settings: str) -> Program:
        peer = TARGET / "load/release/peer-axum"
        peer = self.start([peer], MAIN, POOL_SIZE=str(pool_size), **settings)
        peer.wait_until_it_listens()
        return peer

    def distance(self) -> Program:
        """A proxy before PostgreSQL that puts a distance between."""
        socket = self.sockets / ".s.PGSQL.5432"
        delay = TARGET / "load/release/delay"
        proxy = self.start([delay, socket, str(DISTANCE_MICROSECONDS)], None)
        proxy.wait_until_it_listens()
        return proxy

    def hyper(self) -> Program:
        peer = self.start([TARGET / "load/release/peer-hyper"], None)
        peer.wait_until_it_listens()
        return peer

    # Data

    def fill(self, data: Data) -> None:
        """Creates a database: users through the API, who so have real tokens, the rest by SQL."""
        if data in self.tokens:
            return
        run([self.bin / "createdb", *self.connection(data)])
        environment = {"DATABASE_URL": self.database_url(data), "JWT_SECRET": self.secret}
        run([self.program, "migrate"], cwd=self.folder, env=environment)
        # The service draws the ids of users at random. The SQL counts on users 1, 2, ... .
        ids = "CREATE SEQUENCE ids; ALTER TABLE users ALTER COLUMN id SET DEFAULT nextval('ids')"
        run([self.bin / "psql", "-q", "-X", "-c", ids, *self.connection(data)])
        registrar = self.start([self.program], data, BCRYPT_COST="4", TOKEN_TTL_SECONDS="86400")
        registrar.wait_until_it_listens()
        client = http.client.HTTPConnection(registrar.address)
        self.tokens[data] = [register(client, number + 1) for number in range(data.users)]
        client.close()
        registrar.stop()
        variables = ("patients", "each", "doctors", "mapped")
        values = [f"--set={name}={getattr(data, name)}" for name in variables]
        psql = [self.bin / "psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", *values]
        run([*psql, "-f", LOAD / "fill.sql", *self.connection(data)])

    def targets(self, data: Data = MAIN, mapped: bool = False) -> Path:
        """A file for requests.lua: all patients of all users, or those who have doctors."""
        count = data.mapped if mapped else data.each
        starts = range(1, data.patients + 1, data.each)
        ranges = zip(self.tokens[data], starts)
        return self.targets_file([(token, first, first + count - 1) for token, first in ranges])

    def targets_file(self, ranges: list[tuple[str, int, int]]) -> Path:
        self._files += 1
        file = self.folder / f"targets-{self._files}"
        file.write_text("".join(f"{token} {first} {last}\n" for token, first, last in ranges))
        return file


def build_service() -> None:
    cargo_build(ROOT, TARGET)


def build_peers() -> None:
    for peer in ("peer-axum", "peer-hyper", "delay"):
        cargo_build(LOAD / peer, TARGET / "load")


def cargo_build(package: Path, target: Path) -> None:
    cargo = ["cargo", "build", "--release", "--locked", "--quiet"]
    places = ["--manifest-path", package / "Cargo.toml", "--target-dir", target]
    # From the root, so that all have the same configuration of cargo. What it says is no part of
    # the table.
    subprocess.run([*cargo, *places], cwd=ROOT, stdout=sys.stderr, check=True)


def run(command: list[str | Path], **options: object) -> str:
    """Runs a command to its end; a failure ends us with what it said."""
    done = subprocess.run(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options
    )
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {done.stdout}")
    return done.stdout


def register(client: http.client.HTTPConnection, number: int) -> str:
    user = {"name": "Load", "email": f"user{number}@example.com", "password": "correct horse"}
    headers = {"Content-Type": "application/json"}
    client.request("POST", "/api/auth/register", json.dumps(user), headers)
    answer = client.getresponse()
    session = json.load(answer)
    if answer.status != 201 or session["user"]["id"] != number:
        raise SystemExit(f"registering failed: {session}")
    return session["token"]


def version(place: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", place)]


def find_postgresql() -> Path:
    """The folder of the newest server programs, which must include pgbench."""
    places = [os.environ.get("POSTGRES_BIN", ""), *os.environ["PATH"].split(":")]
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/opt/homebrew/opt/postgresql*/bin",
        "/usr/local/opt/postgresql*/bin",
    ):
        places += sorted(glob.glob(pattern), key=version, reverse=True)
    for place in filter(None, places):
        if all(os.access(f"{place}/{name}", os.X_OK) for name in ("initdb", "postgres", "pgbench")):
            return Path(place)
    raise SystemExit("PostgreSQL's server programs and pgbench are needed: .ci/install postgresql")
