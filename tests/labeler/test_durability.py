"""Whatever befalls the server and its disk: every acknowledged ranking is there, none twice."""

import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from labeler.care import invite
from preferences.disk import Disk
from preferences.store import Store
from preferences.tables.erasures import CALLED_OFF, DUE
from tests.labeler.conftest import PASSWORD
from tests.labeler.mortal import CROWD, Mortal, check, crowd, filled, work

LATEST_MS = 12.0  # a submit takes less than this, so that kills fall before, within and after its transaction
pytestmark = pytest.mark.durability


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.smoke), 100])
def test_every_acknowledged_ranking_is_there_once_however_often_the_server_is_killed(
    tmp_path: Path, begin: Callable[..., Mortal], kills: int
) -> None:
    """Between submits and during them."""
    filled(tmp_path / "labels.db", kills + 40).close()
    server, draw = begin(tmp_path / "labels.db"), random.Random(kills)
    (ann,) = crowd(server, 1)
    for number in range(kills):
        murder = threading.Timer(0 if number % 3 == 0 else draw.uniform(0, LATEST_MS) / 1000, server.kill)
        ann.rank(draw, f"nonce-{number:06}", server.kill if number % 3 == 0 else murder.start)
        if number % 3:
            murder.join()
    assert server.deaths == kills == len(ann.acknowledged)
    assert ann.lost >= kills // 3
    server.kill()
    check(tmp_path / "labels.db", [ann])
    assert Store(tmp_path / "labels.db").db["rankings"].count == kills


@pytest.mark.timeout(120)
def test_a_storm_of_kills_while_several_annotate(tmp_path: Path, begin: Callable[..., Mortal]) -> None:
    """Whoever is in the middle of whatever."""
    filled(tmp_path / "labels.db", 90 * CROWD, CROWD).close()
    server, draw, over = begin(tmp_path / "labels.db"), random.Random(5), threading.Event()
    people = crowd(server)

    def storm() -> None:
        while server.deaths < 30 and not over.wait(draw.uniform(0.3, 0.8)):  # a slow machine must come to an end, too
            server.kill()

    killer = threading.Thread(target=storm)
    killer.start()
    work(people, 80)
    over.set()
    killer.join()
    assert server.deaths > 3
    server.kill()
    check(tmp_path / "labels.db", people)
    assert sum(len(one.acknowledged) for one in people) == 80 * CROWD


@pytest.mark.smoke
def test_a_submit_that_is_under_way_when_the_server_is_stopped_is_answered(
    tmp_path: Path, begin: Callable[..., Mortal], faults: "Faults"
) -> None:
    """SIGTERM with a slow disk: draft and submit were both accepted, so both are answered and stored; then it ends."""
    filled(tmp_path / "labels.db", 8).close()
    server = begin(tmp_path / "labels.db", faults.environment)
    (ann,) = crowd(server, 1)
    faults.set(fsync=0.4)
    stop = threading.Timer(0.2, server.kill, [signal.SIGTERM])
    ann.rank(random.Random(1), "nonce-000001", stop.start)
    stop.join()
    assert (ann.lost, len(ann.acknowledged), server.pid) == (0, 1, None)
    check(tmp_path / "labels.db", [ann])


class Faults:
    """A wall clock that jumps and a disk that takes long, in the processes that get `environment`."""

    def __init__(self, folder: Path) -> None:
        self.file, library = folder / "faults", folder / "faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.file.write_bytes(bytes(16))
        self.environment = {"LD_PRELOAD": str(library), "FAULTS": str(self.file)}

    def set(self, clock: float = 0.0, fsync: float = 0.0) -> None:
        """Seconds by which the clock is wrong, and which each fsync takes longer."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("dd", clock, fsync))


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    folder = tmp_path / "faults"
    folder.mkdir()
    return Faults(folder)


def test_a_slow_disk_and_a_kill(tmp_path: Path, begin: Callable[..., Mortal], faults: Faults) -> None:
    """Each commit waits for the disk, and the server dies meanwhile: what was acknowledged was on it."""
    filled(tmp_path / "labels.db", 20 * CROWD, CROWD).close()
    server = begin(tmp_path / "labels.db", faults.environment)
    people = crowd(server)
    faults.set(fsync=0.05)
    began = time.monotonic()
    murders = [threading.Timer(seconds, server.kill) for seconds in (0.5, 1.1, 1.9)]
    for murder in murders:
        murder.start()
    work(people, 8)
    for murder in murders:
        murder.join()
    assert time.monotonic() - began > 1.5
    server.kill()
    check(tmp_path / "labels.db", people)


def test_a_clock_that_jumps(tmp_path: Path, begin: Callable[..., Mortal], faults: Faults) -> None:
    """A day on and back, an hour, minutes: sessions and leases may end, no answer is lost, none is one too many."""
    filled(tmp_path / "labels.db", 40 * CROWD, CROWD).close()
    server = begin(tmp_path / "labels.db", faults.environment)
    people, over = crowd(server), threading.Event()

    def jumps() -> None:
        draw = random.Random(3)
        while not over.wait(0.1):
            faults.set(clock=draw.choice([-86400, -3600, -60, 0, 60, 3600, 86400]))

    jumping = threading.Thread(target=jumps)
    jumping.start()
    work(people, 20)
    over.set()
    jumping.join()
    server.kill()
    check(tmp_path / "labels.db", people)  # where two have a lease, since one that ended is open again, one is refused
    assert sum(len(one.acknowledged) for one in people) > 10 * CROWD


def test_a_clock_that_is_wrong_at_the_start_erases_nobody(tmp_path: Path, faults: Faults) -> None:
    """Sixty days ahead, in a study that deletes answers after thirty; at the next start it is right again."""
    store = filled(tmp_path / "labels.db", 2, accounts=1)
    store.studies.edit(store.studies.default(), plan={"retention_days": 30, "on_erase": "delete"})
    ann, comparison = store.annotators.get("ann 0"), store.comparisons.all()[0]
    store.rankings.add_imported(ann, comparison, [[item] for item in comparison.items])
    command = [sys.executable, "-m", "labeler", "serve", "--db", store.path, "--port", "0"]
    for wrong in (60 * 86400, 0):
        faults.set(clock=wrong)
        server = subprocess.Popen(command, env={**os.environ, **faults.environment}, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None and server.stdout.readline().startswith("Labeler ready")
            ends = time.monotonic() + 20
            while bool(store.erasures.noted()) != bool(wrong):
                assert time.monotonic() < ends
                time.sleep(0.05)
        finally:
            server.terminate()
            server.communicate(timeout=30)
    assert [event.kind for event in store.events.about(ann.id, DUE, CALLED_OFF)] == [DUE, CALLED_OFF]
    assert len(store.rankings.current()) == 1 and store.annotators.get("ann 0") == ann
    store.close()


def test_a_database_that_another_program_holds(tmp_path: Path, begin: Callable[..., Mortal]) -> None:
    """Submits wait for it, and are stored when it lets go."""
    filled(tmp_path / "labels.db", 20 * CROWD, CROWD).close()
    server = begin(tmp_path / "labels.db")
    people = crowd(server)

    def hold() -> None:
        with closing(sqlite3.connect(tmp_path / "labels.db", isolation_level=None, timeout=30)) as other:
            for seconds in (0.5, 1.5):
                other.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                other.execute("ROLLBACK")
                time.sleep(0.1)

    holder = threading.Thread(target=hold)
    holder.start()
    work(people, 10)
    holder.join()
    assert sum(one.lost + one.refused for one in people) == 0
    server.kill()
    check(tmp_path / "labels.db", people)


def test_whoever_waits_for_a_database_that_another_program_holds_keeps_nobody_else_waiting(
    tmp_path: Path, begin: Callable[..., Mortal]
) -> None:
    """Somebody joins and somebody logs in, which both write; the server answers all others at once."""
    store = filled(tmp_path / "labels.db", 8)
    ((_, link),) = invite(store, "zoe", "annotator", 7, (), "http://labeler/")
    store.close()
    server = begin(tmp_path / "labels.db")
    base, token = f"http://127.0.0.1:{server.port}", link.partition("=")[2]
    joining = {"token": token, "password": "a password of mine", "again": "a password of mine"}
    with ThreadPoolExecutor(2) as pool, closing(sqlite3.connect(tmp_path / "labels.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [
            pool.submit(httpx.post, f"{base}/join", data=joining, timeout=60),
            pool.submit(httpx.post, f"{base}/login", json={"name": "ann 0", "password": PASSWORD}, timeout=60),
        ]
        ends = time.monotonic() + 2.0
        while time.monotonic() < ends:
            for path in ("/healthz", "/readyz", "/login", f"/join?token={token}"):
                assert httpx.get(base + path, timeout=10).status_code in ((200, 503) if path == "/readyz" else (200,))
        assert not any(answer.done() for answer in waiting)
        other.execute("ROLLBACK")
        assert [answer.result().status_code for answer in waiting] == [303, 200]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill_up(place: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_a_full_disk(small_disk: Path, begin: Callable[..., Mortal]) -> None:
    """Nothing is acknowledged that cannot be stored; the server says that it is not ready, lives on, and recovers."""
    filled(small_disk / "labels.db", 30 * CROWD, CROWD).close()
    server = begin(small_disk / "labels.db")
    people = crowd(server)
    work(people, 2)
    for _ in range(3):
        ballast = fill_up(small_disk)
        worker = threading.Thread(target=work, args=(people, 5))
        worker.start()
        time.sleep(1.0)
        health = httpx.get(f"http://127.0.0.1:{server.port}/healthz")
        ready = httpx.get(f"http://127.0.0.1:{server.port}/readyz")
        assert (health.status_code, ready.status_code) == (200, 503)
        assert "disk_full" in ready.json()["problems"]
        ballast.unlink()
        worker.join(60)
        assert not worker.is_alive()
    assert sum(one.refused for one in people) > 0
    ballast = fill_up(small_disk)
    server.kill()  # with a full disk, too, what was acknowledged is there
    ballast.unlink()
    check(small_disk / "labels.db", people)
    assert sum(len(one.acknowledged) for one in people) == 17 * CROWD


def test_a_read_only_disk_is_known(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert not Disk(place).read_only()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], check=True)
    try:
        assert Disk(place).read_only()
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def ranked(tmp_path: Path, answers: int = 12) -> tuple[Path, list[str]]:
    """A database whose last answers are in the write-ahead log alone, as a crash leaves it; their nonces in order."""
    live = tmp_path / "live"
    live.mkdir()
    store = filled(live / "labels.db", answers + 4)
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    nonces = []
    ann = store.annotators.get("ann 0")
    for number, comparison in enumerate(store.comparisons.all()[:answers]):
        store.rankings.add_imported(ann, comparison, [[item] for item in comparison.items])
        nonces.append(str(number))
    dead = tmp_path / "dead"
    shutil.copytree(live, dead)  # whole: nobody writes meanwhile
    store.close()
    return dead / "labels.db", nonces


def test_a_log_that_was_cut_anywhere(tmp_path: Path) -> None:
    """What opens is the database after one of its commits, whole; never a half of one."""
    path, nonces = ranked(tmp_path)
    log = path.with_name("labels.db-wal").read_bytes()
    database = path.read_bytes()
    draw, seen = random.Random(9), set()
    for cut in [0, 1, 31, 32, 33, len(log) - 1, len(log), *(draw.randrange(len(log)) for _ in range(40))]:
        path.write_bytes(database)
        path.with_name("labels.db-wal").write_bytes(log[:cut])
        path.with_name("labels.db-shm").unlink(missing_ok=True)
        store = Store(path)
        store.check()
        assert store.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        there = [ranking.comparison for ranking in store.rankings.current()]
        expected = [comparison.id for comparison in store.comparisons.all()[: len(there)]]
        assert sorted(there) == sorted(expected), "Answers are missing before others that are there."
        seen.add(len(there))
        store.close()
    assert {0, len(nonces)} <= seen and len(seen) > 4
