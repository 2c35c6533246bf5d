import io
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from labeler.__main__ import main
from labeler.commands.serve import bind, url
from preferences.records import Annotator, Comparison, Policy
from preferences.store import Store
from preferences.tables.rankings import Answer

Outcome = tuple[int, str, str]  # exit status, standard output, standard error
Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, called in this process."""

    def call(*args: str | Path, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "new.db"


def refused(outcome: Outcome, words: str) -> None:
    """It failed with one sentence on standard error and nothing else."""
    status, out, err = outcome
    assert (status, out) == (2, "")
    assert words in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.security
@pytest.mark.smoke
def test_what_acts_in_a_terminal_is_seen_in_it(run: Run, db: Path) -> None:
    """Names come with imported files too, and with models."""
    store = Store(db)
    evil = "\x1b]0;pwned\x07\x1b[2J\u202eann\r"
    store.annotators.add(evil, "annotator", "")
    store.studies.set_sampling_policies(
        store.studies.create("main"), [store.policies.add(Policy("p", evil, "imported"))]
    )
    store.close()
    for command in (
        ("people", "list"),
        ("study", "list"),
        ("people", "remove", evil),
        ("audit",),
        ("people", "remove", "\x1b[2J"),
    ):
        _, out, err = run(*command, "--db", db)
        assert not {"\x1b", "\x07", "\u202e", "\r"} & {*out, *err} and "\\x1b" in out + err, command


def test_people_are_added_listed_and_removed(run: Run, db: Path) -> None:
    added = run("people", "add", "ann", "--role", "annotator", "--password-stdin", "--db", db, stdin="long enough\n")
    assert added == (0, "ann can log in as annotator.\n", "")
    robot = run(
        "people", "add", "robot", "--role", "annotator", "--simulated", "--password-stdin", "--json", "--db", db,
        stdin="long enough",
    )  # fmt: skip
    assert json.loads(robot[1])["simulated"] is True
    people = json.loads(run("people", "list", "--json", "--db", db)[1])
    assert [(one["name"], one["simulated"], one["active"]) for one in people] == [
        ("ann", False, True), ("robot", True, True),
    ]  # fmt: skip
    assert not any("password" in key for one in people for key in one)
    assert run("people", "remove", "ANN", "--db", db)[0] == 0
    assert "ann: annotator, inactive" in run("people", "list", "--db", db)[1]


@pytest.mark.security
@pytest.mark.smoke
def test_a_new_password_ends_the_sessions(run: Run, store: Store, accounts: dict[str, Annotator]) -> None:
    store.annotators.open_session(accounts["ann"], "hash", 3600)
    assert run("people", "password", "ann", "--password-stdin", "--db", store.path, stdin="another one\n")[0] == 0
    assert store.annotators.get("ann").password_hash != accounts["ann"].password_hash
    assert store.db["sessions"].count == 0


def test_a_bad_account_is_one_sentence_and_makes_no_database(run: Run, db: Path) -> None:
    add = ("people", "add", "--role", "annotator", "--db", db)
    refused(run(*add, "ann", "--password-stdin", stdin="short\n"), "8 to 1024")
    refused(run(*add, "ann", "--password-stdin", stdin=""), "no password")
    refused(run(*add, "ann", stdin="long enough\n"), "--password-stdin")
    refused(run(*add, " ann", "--password-stdin", stdin="long enough\n"), "A name")
    refused(run(*add, "a\x07nn", "--password-stdin", stdin="long enough\n"), "A name")
    assert run("people", "add", "ann", "--role", "boss", "--password-stdin", "--db", db)[0] == 2
    assert not db.exists()


def test_a_name_is_taken_whatever_its_case(run: Run, store: Store, accounts: dict[str, Annotator]) -> None:
    add = ("people", "add", "ANN", "--role", "admin", "--password-stdin", "--db", store.path)
    refused(run(*add, stdin="long enough\n"), "already")
    assert len(store.annotators.all()) == len(accounts)


@pytest.mark.parametrize(
    "command",
    [
        ("people", "list"),
        ("people", "password", "ann", "--password-stdin"),
        ("people", "remove", "ann"),
        ("study", "list"),
        ("study", "policies"),
        ("export", "--out", "out.jsonl"),
        ("stats",),
    ],
)
def test_what_only_reads_or_changes_refuses_a_database_that_is_not_there(
    run: Run, db: Path, command: tuple[str, ...]
) -> None:
    refused(run(*command, "--db", db, stdin="long enough\n"), "no database")
    assert not db.exists()


def test_an_unreadable_and_a_newer_database_are_one_sentence(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("This is no database.")
    refused(run("stats", "--db", text), "cannot be opened")
    refused(run("serve", "--port", "0", "--db", text), "cannot be opened")
    newer = tmp_path / "newer.db"
    Store(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("UPDATE _sqlite_migrations SET name = 'm999_later' WHERE name LIKE 'm001%'")
    connection.commit()
    connection.close()
    refused(run("stats", "--db", newer), "newer version")
    refused(run("people", "add", "a", "--role", "admin", "--password-stdin", "--db", tmp_path / "no" / "x.db",
                stdin="long enough\n"), "does not exist")  # fmt: skip


def test_prompts_are_imported_once(run: Run, db: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    texts = [f"Question number {'abcdefghij'[i]} about {'klmnopqrst'[i]}?" for i in range(10)]
    file.write_text("".join(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in texts))
    for _ in range(2):
        status, out, _ = run("import", "prompts", file, "--heldout", "1", "--db", db, "--json")
        done = json.loads(out)
        assert (status, done["study"], done["prompts"], done["heldout"]) == (0, "default", 10, 10)
    assert json.loads(run("stats", "--json", "--db", db)[1])["prompts"] == 10
    assert "10 prompts" in run("import", "prompts", file, "--db", db)[1]


def test_a_bad_file_is_one_sentence_and_stores_nothing(run: Run, db: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    good = json.dumps({"messages": [{"role": "user", "content": "Hello?"}]})
    for content, words in (("", "no records"), (f"{good}\n{{", "line 2"), (f"{good}\n\n[]", "line 3")):
        file.write_text(content)
        refused(run("import", "prompts", file, "--db", db), words)
        refused(run("import", "rankings", file, "--db", db), "line 1" if content else "no records")
    refused(run("import", "prompts", tmp_path / "absent.jsonl", "--db", db), "absent.jsonl")
    file.write_text(good)
    refused(run("import", "prompts", file, "--heldout", "2", "--db", db), "--heldout")
    refused(run("import", "prompts", file, "--study", "absent", "--db", db), "no study")
    assert json.loads(run("stats", "--json", "--db", db)[1])["prompts"] == 0


def rank_all(store: Store, account: Annotator, comparisons: dict[int, Comparison]) -> None:
    for k, comparison in comparisons.items():
        lease = store.queue.lease(comparison.id, account, comparison.items, 60)
        tiers = [[item] for item in comparison.items]
        store.rankings.submit(account, Answer(comparison.id, lease.id, f"nonce-{k:04}", tiers))


def test_rankings_are_exported_and_imported(
    run: Run, store: Store, accounts: dict[str, Annotator], comparisons: dict[int, Comparison], tmp_path: Path, db: Path
) -> None:
    out = tmp_path / "out.jsonl"
    refused(run("export", "--out", out, "--db", store.path), "no ranking")
    rank_all(store, accounts["ann"], comparisons)
    done = json.loads(run("export", "--out", out, "--db", store.path, "--json")[1])
    assert done == {"format": "jsonl", "out": str(out), "records": 8, "split": "train"}
    assert json.loads(run("import", "rankings", out, "--db", db, "--json")[1])["rankings"] == 8
    assert json.loads(run("import", "rankings", out, "--db", db, "--json")[1])["rankings"] == 0
    pairs = tmp_path / "pairs.jsonl"
    run("export", "--format", "trl-preference", "--out", pairs, "--db", store.path, "--study", "main")
    assert len(pairs.read_text().splitlines()) == sum(k * (k - 1) // 2 for k in range(2, 10))
    refused(run("export", "--split", "heldout", "--out", out, "--db", store.path), "no ranking")
    refused(run("export", "--out", tmp_path / "no" / "x.jsonl", "--db", store.path), "cannot be written")
    refused(run("export", "--study", "absent", "--out", out, "--db", store.path), "no study")


def test_the_format_of_an_import_stands_before_or_behind_the_file(run: Run, db: Path, tmp_path: Path) -> None:
    record = {
        "prompt": [{"role": "user", "content": "Why?"}], "responses": [{"text": "a"}, {"text": "b"}],
        "annotations": [{"annotator": "ana", "ranking": [[1], [0]]}],
    }  # fmt: skip
    file = tmp_path / "r.jsonl"
    file.write_text(f"{json.dumps(record)}\n{{\n")
    refused(run("import", file, "--format", "rankloop", "--db", db), "r.jsonl, line 2: not valid JSON")
    done = json.loads(run("import", file, "--format", "rankloop", "--skip-bad", "--json", "--db", db)[1])
    assert (done["rankings"], done["skipped"]) == (1, 1)
    assert "1 bad records were left out; the first: " in run("import", "rankings", file, "--skip-bad", "--db", db)[1]
    refused(run("import", file, "--db", db), "--format")
    refused(run("import", "rankings", file, "--format", "rankloop", "--db", db), "Give one file")
    refused(run("import", file, file, "--format", "rankloop", "--db", db), "Give one file")


def test_simulated_rankings_are_exported_only_when_asked_for(
    run: Run, store: Store, comparisons: dict[int, Comparison], tmp_path: Path
) -> None:
    rank_all(store, store.annotators.add("robot", "annotator", "", simulated=True), comparisons)
    refused(run("export", "--out", tmp_path / "o", "--db", store.path), "--include-simulated")
    assert run("export", "--out", tmp_path / "o", "--include-simulated", "--split", "all", "--db", store.path)[0] == 0


def test_stats_count(
    run: Run, store: Store, accounts: dict[str, Annotator], comparisons: dict[int, Comparison]
) -> None:
    rank_all(store, accounts["ann"], {2: comparisons[2]})
    counts = {
        "studies": 1, "prompts": 8, "policies": 2, "responses": 44, "comparisons": 8, "rankings": 1, "skips": 0,
        "annotators": 3, "waiting": 7,
    }  # fmt: skip
    assert json.loads(run("stats", "--json", "--db", store.path)[1]).items() >= counts.items()
    assert "rankings: 1\n" in run("stats", "--db", store.path)[1]


@pytest.mark.usefixtures("study")
def test_the_sampling_policies_are_shown_and_chosen(run: Run, store: Store) -> None:
    store.policies.add(Policy("pid-new", "newest", "ppo"))
    (listed,) = json.loads(run("study", "list", "--json", "--db", store.path)[1])
    assert (listed["name"], listed["policies"]) == ("main", ["policy-secret-sft", "policy-secret-ppo"])
    chosen = run("study", "policies", "newest", "policy-secret-sft", "--db", store.path)
    assert chosen[:2] == (0, "main is answered by newest, policy-secret-sft.\n")
    refused(run("study", "policies", "policy-secret-ppo", "absent", "--db", store.path), "no policy")
    assert json.loads(run("study", "policies", "--json", "--db", store.path)[1])["policies"] == [
        "newest", "policy-secret-sft",
    ]  # fmt: skip


def test_an_address_that_cannot_be_had_is_one_sentence(run: Run, db: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(run("serve", "--port", str(port), "--db", db), f"port {port}")
    refused(run("serve", "--port", "70000", "--db", db), "0 to 65535")
    refused(run("serve", "--host", "no-such-host.invalid", "--db", db), "no-such-host.invalid")
    assert not db.exists()


def test_the_address_that_is_printed_can_be_opened() -> None:
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost")):
        with bind(host, 0) as listener:
            assert url(listener) == f"http://{shown}:{listener.getsockname()[1]}/"


def test_answers_are_sent_at_once() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.fixture
def server(store: Store, accounts: dict[str, Annotator]) -> Iterator[Any]:  # noqa: ARG001
    """A real `labeler serve` on a free port."""
    command = [sys.executable, "-m", "labeler", "serve", "--port", "0", "--db", str(store.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_when_it_is_ready_and_ends_gracefully(server: Any, number: int) -> None:
    line = server.stdout.readline()
    found = re.fullmatch(r"Labeler ready on (http://127\.0\.0\.1:\d+/)\n", line)
    assert found, line
    assert httpx.get(f"{found[1]}login").status_code == 200
    login = httpx.post(f"{found[1]}login", json={"name": "ann", "password": "correct horse battery"})
    assert httpx.get(f"{found[1]}api/next", cookies=login.cookies).json()["state"] == "empty"
    start = time.monotonic()
    server.send_signal(number)
    out, err = server.communicate(timeout=20)
    assert (server.returncode, out, err) == (0, "", "")
    assert time.monotonic() - start < 5
