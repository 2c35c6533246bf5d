"""`labeler backup` while annotators work, `labeler restore`, and a start that refuses what is damaged."""

import io
import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from labeler.__main__ import main
from preferences.backups import checked, read_only
from preferences.store import Store
from tests.conftest import ROOT
from tests.labeler.mortal import Mortal, check, crowd, filled, work


def labeler(*words: str | Path, expect: int = 0) -> tuple[str, str]:
    """The command line, called in this process; what it said on standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == expect, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.mark.durability
@pytest.mark.smoke
def test_a_backup_made_while_annotators_work_has_all_that_was_acknowledged_before_it(
    tmp_path: Path, begin: Callable[..., Mortal]
) -> None:
    """Then the server is killed and the last backup restored: by its hash and its row counts."""
    db = tmp_path / "labels.db"
    filled(db, 200, 2).close()
    server = begin(db)
    people = crowd(server, 2)
    working = threading.Thread(target=work, args=(people, 60))
    working.start()
    backups = []
    while working.is_alive() or len(backups) < 2:
        before = {nonce for one in people for nonce in one.acknowledged}
        made = json.loads(labeler("backup", "--db", db, "--out", tmp_path / f"{len(backups)}.db", "--json")[0])
        backups.append((Path(made["backup"]), before, made["rows"]["rankings"]))
    working.join()
    assert sum(one.lost + one.refused for one in people) == 0
    for path, before, count in backups:
        with closing(read_only(path)) as copy:
            stored = {nonce for (nonce,) in copy.execute("SELECT nonce FROM rankings")}
        assert before <= stored and len(stored) == count
    path, before, count = backups[-1]
    assert len(before) > 0
    refused = labeler("restore", path, "--db", db, expect=2)
    assert "is in use; stop the labeler and the worker" in refused[1]
    server.kill()
    back = json.loads(labeler("restore", path, "--db", db, "--json")[0])
    assert back["rows"]["rankings"] == count
    check(Path(back["replaced"]), people)
    store = Store(db)
    assert before <= {row["nonce"] for row in store.rankings.rows("SELECT nonce FROM rankings")}
    store.close()
    server.start()  # and work goes on
    people[0].rank(random.Random(1), "nonce-after-restore")


def test_backups_are_named_after_the_time_and_only_so_many_kept(tmp_path: Path) -> None:
    db, folder = tmp_path / "labels.db", tmp_path / "backups"
    filled(db, 1).close()
    said = labeler("backup", "--db", db, "--out", folder, "--keep", "2")[0]
    assert re.fullmatch(rf"{folder}/labels-\d{{8}}T\d{{6}}Z\.db: \d+ rows, 0 of them answers; \d+ bytes\.\n", said)
    for name in ("labels-20200101T000000Z.db", "labels-20210101T000000Z.db"):
        labeler("backup", "--db", db, "--out", folder / name)
    again = labeler("backup", "--db", db, "--out", folder / "labels-20210101T000000Z.db", expect=2)
    assert "exists already; give another --out" in again[1]
    for path in (tmp_path / "none.db", tmp_path / "none" / "x.db"):
        assert not path.exists()
    assert "There is no database" in labeler("backup", "--db", tmp_path / "none.db", expect=2)[1]
    assert "does not exist" in labeler("backup", "--db", db, "--out", tmp_path / "none" / "x.db", expect=2)[1]
    assert "--keep is at least 1" in labeler("backup", "--db", db, "--keep", "0", expect=2)[1]
    assert not (tmp_path / "none.db").exists()


def test_a_backup_that_is_not_whole_or_of_another_program_is_not_restored(tmp_path: Path) -> None:
    db, backup = tmp_path / "labels.db", tmp_path / "b.db"
    filled(db, 1).close()
    labeler("backup", "--db", db, "--out", backup)
    before = db.read_bytes()
    whole = backup.read_bytes()
    backup.write_bytes(whole[:100] + b"x" + whole[101:])
    assert "SHA-256 differs" in labeler("restore", backup, "--db", db, expect=2)[1]
    assert "There is no backup" in labeler("restore", tmp_path / "none.db", "--db", db, expect=2)[1]
    assert db.read_bytes() == before
    backup.write_bytes(whole)
    assert checked(backup).rows["comparisons"] == 1
    assert "as it was on" in labeler("restore", backup, "--db", db)[0]


def test_a_damaged_database_is_not_served_and_the_backup_brings_it_back(tmp_path: Path) -> None:
    """The whole way: refused with what to do; done as told; served."""
    db, backup = tmp_path / "labels.db", tmp_path / "b.db"
    filled(db, 30).close()
    labeler("backup", "--db", db, "--out", backup)
    content = bytearray(db.read_bytes())
    content[3 * 4096 : 4 * 4096] = random.Random(2).randbytes(4096)
    db.write_bytes(content)
    refused = labeler("serve", "--port", "0", "--db", db, expect=2)
    assert refused[0] == "" and f"labeler restore BACKUP --db {db}" in refused[1]
    labeler("restore", backup, "--db", db)
    store = Store(db)
    assert (store.check(), len(store.comparisons.all())) == ("", 30)
    store.close()


@pytest.mark.durability
def test_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    """A file system that was mounted to be read alone."""
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        filled(place / "labels.db", 1).close()
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        refused = labeler("serve", "--port", "0", "--db", place / "labels.db", expect=2)
        assert "read" in refused[1] and refused[1].count("\n") == 1
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_the_restore_drill_of_the_documents_works_as_it_is_written(tmp_path: Path) -> None:
    """The commands between "Restore drill" and the next heading, run by a shell."""
    filled(tmp_path / "rankloop.db", 2).close()
    drill = (
        (ROOT / "docs" / "operate.md").read_text(encoding="utf-8").split("## Restore drill", 1)[1].split("\n## ", 1)[0]
    )
    (commands,) = re.findall(r"```sh\n(.*?)```", drill, re.DOTALL)
    assert "labeler backup" in commands and "labeler restore" in commands
    script = f'set -euo pipefail\nlabeler() {{ {sys.executable} -m labeler "$@"; }}\n{commands}'
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "as it was on" in done.stdout
