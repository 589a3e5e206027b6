"""The rows of the table: what is measured, against what, and the floor."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import measure
from measure import Connection, Sample, forget_peak, resident
from fixture import LARGE, LONG, MAIN, SMALL, Data, Program, Fixture

MIB = 1 << 20

POOL_SIZES = (4, 8, 16, 32)
PGBENCH_CLIENTS = (8, 16, 32, 64)

# Different patients that one run of wrk asks for: 20,000 for each of its two threads.
WRK_PATIENTS = 40_000
# With the database far away: these against one connection.
FAR_CONNECTIONS = (4, 8, 16)

IDLE_CONNECTIONS = 4_000
STARTS = 5


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    ours: str
    rival: str
    # Ours to the rival's, or a plain figure where there is no rival.
    figure: float
    bound: float
    # Whether the bound is the least that will do, or the most.
    at_least: bool
    unit: str = "x"
    # Answers that were not 2xx, of ours and of the rival's.
    wrong: tuple[int, int] = (0, 0)
    # What the picture shows; none where a row has no rival.
    race: "Race | None" = None

    @property
    def passed(self) -> bool:
        good = self.figure >= self.bound if self.at_least else self.figure <= self.bound
        return good and self.wrong == (0, 0)


@dataclass(frozen=True)
class Race:
    """Runs of ours and of the rival, in turns."""

    ours: list[Sample]
    rival: list[Sample]

    @property
    def wrong(self) -> tuple[int, int]:
        return sum(run.wrong for run in self.ours), sum(run.wrong for run in self.rival)

    def row(self, name: str, what: str, floor: float, rival: str) -> Row:
        ours, theirs = rate(self.ours), rate(self.rival)
        return Row(
            name,
            what,
            f"{ours:,.0f}/s",
            f"{theirs:,.0f}/s {rival}",
            ours / theirs,
            floor,
            True,
            wrong=self.wrong,
            race=self,
        )


def rate(runs: list[Sample]) -> float:
    return median(run.rate for run in runs)


@dataclass
class Bench:
    """Measures on a fixture: `rounds` times for `seconds` each."""

    fixture: Fixture
    rounds: int
    seconds: float

    def race(self, ours: Callable[[], Sample], rival: Callable[[], Sample]) -> Race:
        race = Race([], [])
        for turn in range(self.rounds):
            lanes = [(race.ours, ours), (race.rival, rival)]
            # Who comes first alternates, so that neither profits from what the other leaves behind.
            for runs, run in reversed(lanes) if turn % 2 else lanes:
                runs.append(run())
        return race

    def best(self, candidates: tuple[int, ...], run: Callable[[int, float], Sample]) -> int:
        """The candidate with the highest rate, in shorter runs."""
        seconds = max(2, self.seconds / 3)
        return max(candidates, key=lambda candidate: run(candidate, seconds).rate)

    def against_axum(
        self,
        script: str,
        connections: int = 64,
        mapped: bool = False,
        service: Program | None = None,
        **settings: str,
    ) -> tuple[Race, str]:
        """`settings` are the rival's, beside the size of its pool."""
        service = service or self.fixture.service()
        targets = self.fixture.targets(mapped=mapped)

        def load(program: Program, seconds: float) -> Sample:
            return measure.wrk(program, script, connections, seconds, targets)

        def probe(pool_size: int, seconds: float) -> Sample:
            peer = self.fixture.axum(pool_size, **settings)
            sample = load(peer, seconds)
            peer.stop()
            return sample

        pool_size = self.best(POOL_SIZES, probe)
        peer = self.fixture.axum(pool_size, **settings)
        # Both begin warm: connections made, statements prepared.
        load(service, 1)
        load(peer, 1)
        race = self.race(lambda: load(service, self.seconds), lambda: load(peer, self.seconds))
        peer.stop()
        return race, f"axum, pool of {pool_size}"

    def against_pgbench(self, script: str, connections: int) -> tuple[Race, str]:
        service = self.fixture.service()
        targets = self.fixture.targets()

        def pgbench(clients: int, seconds: float) -> Sample:
            return measure.pgbench(self.fixture, script, clients, seconds, MAIN)

        clients = self.best(PGBENCH_CLIENTS, pgbench)
        measure.wrk(service, script, connections, 1, targets)
        race = self.race(
            lambda: measure.wrk(service, script, connections, self.seconds, targets),
            lambda: pgbench(clients, self.seconds),
        )
        return race, f"pgbench, {clients} clients"


def get(bench: Bench) -> list[Row]:
    race, rival = bench.against_axum("get")
    p50, p99 = (median(getattr(run, name) for run in race.ours) for name in ("p50", "p99"))
    return [
        race.row("get", "get one patient, 64 connections", 3.0, rival),
        Row(
            "get-p99",
            "the same, p99 to its own p50",
            f"{p99:,.0f} µs",
            f"{p50:,.0f} µs",
            p99 / p50,
            4.0,
            False,
            wrong=race.wrong,
        ),
    ]


def get_pgbench(bench: Bench) -> list[Row]:
    race, rival = bench.against_pgbench("get", 64)
    return [race.row("get-pgbench", "get one patient, 64 connections", 1.0, rival)]


def get_single(bench: Bench) -> list[Row]:
    service = bench.fixture.service()
    targets = bench.fixture.targets()
    live: list[Sample] = []

    def parts() -> Sample:
        live.append(measure.wrk(service, "report", 1, bench.seconds))
        return measure.pgbench(bench.fixture, "get", 1, bench.seconds, MAIN)

    race = bench.race(lambda: measure.wrk(service, "get", 1, bench.seconds, targets), parts)
    p50, floor, database = (
        median(run.p50 for run in runs) for runs in (race.ours, live, race.rival)
    )
    wrong = (race.wrong[0] + sum(run.wrong for run in live), race.wrong[1])
    return [
        Row(
            "get-single",
            "get one patient, 1 connection, p50",
            f"{p50:,.0f} µs",
            f"{floor:,.0f} µs live + {database:,.0f} µs pgbench",
            p50 / (floor + database),
            1.15,
            False,
            wrong=wrong,
        )
    ]


def page(bench: Bench) -> list[Row]:
    race, rival = bench.against_axum("page")
    return [race.row("page", "a page of 50 patients, 64 connections", 1.5, rival)]


def create(bench: Bench) -> list[Row]:
    race, rival = bench.against_pgbench("create", 32)
    return [race.row("create", "create a patient, 32 connections", 0.8, rival)]


def doctors(bench: Bench) -> list[Row]:
    race, rival = bench.against_axum("doctors", mapped=True)
    return [race.row("doctors", "the doctors of a patient, 64 connections", 2.0, rival)]


def mixed(bench: Bench) -> list[Row]:
    race, rival = bench.against_axum("mixed")
    what = "80% get, 10% page, 5% create, 5% update, 64 connections"
    return [race.row("mixed", what, 2.0, rival)]


def live(bench: Bench) -> list[Row]:
    service, peer = bench.fixture.service(), bench.fixture.hyper()
    race = bench.race(
        lambda: measure.wrk(service, "report", 64, bench.seconds),
        lambda: measure.wrk(peer, "report", 64, bench.seconds),
    )
    peer.stop()
    return [
        race.row("live", "answer from memory (/health/live), 64 connections", 0.85, "bare hyper")
    ]


def growth_get(bench: Bench) -> list[Row]:
    """What a hundred times the rows cost the service, against what they cost PostgreSQL alone."""
    fixture = bench.fixture
    large, small = fixture.service(LARGE), fixture.service(SMALL)
    many, few = fixture.targets(LARGE), fixture.targets(SMALL)

    def database(data: Data, each: int) -> Sample:
        return measure.pgbench(fixture, "growth", 2, bench.seconds, data, few=each)

    measure.wrk(large, "get", 64, 1, many)
    measure.wrk(small, "get", 64, 1, few)
    service = bench.race(
        lambda: measure.wrk(large, "get", 64, bench.seconds, many),
        lambda: measure.wrk(small, "get", 64, bench.seconds, few),
    )
    # As many different patients as wrk asks for.
    alone = bench.race(
        lambda: database(LARGE, WRK_PATIENTS // LARGE.users), lambda: database(SMALL, SMALL.each)
    )
    fixture.stop_service(LARGE)
    fixture.stop_service(SMALL)
    ours, theirs = (rate(race.ours) / rate(race.rival) for race in (service, alone))
    return [
        Row(
            "growth-get",
            "growth: get one of 1,000,000 patients of 1,000 users, to 10,000 of 10",
            f"{ours:.2f} x as fast",
            f"{theirs:.2f} x PostgreSQL alone",
            ours / theirs,
            0.97,
            True,
            wrong=service.wrong,
        )
    ]


def growth_page(bench: Bench) -> list[Row]:
    fixture = bench.fixture
    service = fixture.service(LONG)
    token = fixture.tokens[LONG][0]
    # A range of 50 patients has one page.
    deep = fixture.targets_file([(token, 900_001, 900_050)])
    first = fixture.targets_file([(token, 1, 50)])
    race = bench.race(
        lambda: measure.wrk(service, "page", 64, bench.seconds, deep),
        lambda: measure.wrk(service, "page", 64, bench.seconds, first),
    )
    fixture.stop_service(LONG)
    what = "growth: a page after 900,000 rows of one user"
    return [race.row("growth-page", what, 0.9, "the first page")]


def far(bench: Bench) -> list[Row]:
    """The database on another machine: half a millisecond away, each way."""
    fixture = bench.fixture
    fixture.fill(MAIN)
    distance = fixture.distance()
    url = fixture.far_database_url(distance, MAIN)
    service = fixture.fresh_service(MAIN, DATABASE_URL=url)
    rows = [far_latency(bench, service, script) for script in ("get", "create")]
    race, rival = bench.against_axum("get", service=service, DATABASE_URL=url)
    rows.append(race.row("far-get", "far database: get, 64 connections", 5.0, rival))
    service.stop()
    distance.stop()
    return rows


def far_latency(bench: Bench, service: Program, script: str) -> Row:
    """The worst median over several connections, to that over one."""
    targets = bench.fixture.targets()
    runs: dict[int, list[Sample]] = {connections: [] for connections in (1, *FAR_CONNECTIONS)}
    measure.wrk(service, script, 16, 1, targets)
    for _ in range(bench.rounds):
        for connections, samples in runs.items():
            samples.append(measure.wrk(service, script, connections, bench.seconds, targets))
    p50 = {connections: median(run.p50 for run in samples) for connections, samples in runs.items()}
    several = " / ".join(f"{p50[connections]:,.0f}" for connections in FAR_CONNECTIONS)
    return Row(
        f"far-{script}-p50",
        f"far database: {script}, p50 over {' / '.join(map(str, FAR_CONNECTIONS))} connections",
        f"{several} µs",
        f"{p50[1]:,.0f} µs over 1",
        max(p50[connections] for connections in FAR_CONNECTIONS) / p50[1],
        1.25,
        False,
        wrong=(sum(run.wrong for samples in runs.values() for run in samples), 0),
    )


def stream(bench: Bench) -> list[Row]:
    service = bench.fixture.fresh_service(LONG)
    token, count = bench.fixture.tokens[LONG][1], 100_000
    connection = Connection(service.address)
    wrong = int(connection.get("/api/patients?limit=1", token) != 200)
    connection.close()
    time.sleep(1)
    idle = resident(service.pid)
    forget_peak(service.pid)
    client = http.client.HTTPConnection(service.address)
    client.request("GET", "/api/patients", headers={"Authorization": f"Bearer {token}"})
    begun = time.perf_counter()
    answer = client.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - begun
    peak = resident(service.pid, "VmHWM")
    client.close()
    wrong += int(answer.status != 200 or len(json.loads(body)) != count)
    service.stop()
    return [
        Row(
            "stream",
            "all 100,000 patients of one user in one list, peak above idle",
            f"{peak / MIB:.1f} MiB peak, {len(body) / seconds / MIB:,.0f} MiB/s",
            f"{idle / MIB:.1f} MiB idle",
            (peak - idle) / MIB,
            16,
            False,
            "MiB",
            (wrong, 0),
        )
    ]


def memory(bench: Bench) -> list[Row]:
    service = bench.fixture.fresh_service(MAIN)
    time.sleep(2)
    idle = resident(service.pid)
    connections: list[Connection] = []
    wrong = 0

    def open_one() -> None:
        connections.append(Connection(service.address))

    def ask() -> int:
        token, number = bench.fixture.tokens[MAIN][0], len(connections) % MAIN.each + 1
        return int(connections[-1].get(f"/api/patients/{number}", token) != 200)

    # What the first request makes once is not the price of a connection.
    open_one()
    wrong += ask()
    before = resident(service.pid)
    for _ in range(IDLE_CONNECTIONS):
        open_one()
        wrong += ask()
    time.sleep(1)
    each = (resident(service.pid) - before) / IDLE_CONNECTIONS
    # They were all there while they were counted.
    for connection in connections[1:]:
        wrong += int(connection.get("/health/live") != 200)
    for connection in connections:
        connection.close()
    service.stop()
    return [
        Row(
            "memory-idle",
            "resident at idle",
            "",
            "",
            idle / MIB,
            30,
            False,
            "MiB",
        ),
        Row(
            "memory-connection",
            f"memory of each of {IDLE_CONNECTIONS:,} idle connections",
            "",
            "",
            each / 1024,
            24,
            False,
            "KiB",
            (wrong, 0),
        ),
    ]


def start(bench: Bench) -> list[Row]:
    fixture = bench.fixture
    fixture.fill(MAIN)

    def once() -> float:
        port = measure.free_port()
        programs: list[Program] = []
        seconds = measure.seconds_to_first_200(
            lambda: programs.append(fixture.start([fixture.program], MAIN, PORT=str(port))), port
        )
        programs[0].stop()
        return seconds

    milliseconds = 1000 * median(once() for _ in range(STARTS))
    what = "program start to first 200 of /health/ready, migrated database"
    return [Row("start", what, "", "", milliseconds, 200, False, "ms")]


# In the order of the table. What writes comes after what reads, so that reads find the data as it
# was loaded.
ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "get": get,
    "get-pgbench": get_pgbench,
    "get-single": get_single,
    "page": page,
    "doctors": doctors,
    "live": live,
    "create": create,
    "mixed": mixed,
    "far": far,
    "growth-get": growth_get,
    "growth-page": growth_page,
    "stream": stream,
    "memory": memory,
    "start": start,
}
