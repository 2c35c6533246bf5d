"""What is refused before a database is worked with: damaged pages, a disk that cannot be written, a network in between."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from preferences import checkup
from preferences.checkup import check_place, file_system
from preferences.errors import BadDatabase, Busy
from preferences.records import Policy, Response, Study
from preferences.store import Store

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:44 / /home rw shared:3 master:1 - nfs4 filer:/home rw
41 40 0:45 / /home/ann/local rw - xfs /dev/vdb rw
42 27 0:46 / /mnt/with\\040space rw - cifs //server/share rw
43 27 0:47 / /mnt/over rw - ext4 /dev/vdc rw
44 27 0:48 / /mnt/over rw - fuse.sshfs me@there: rw
45 27 0:49 / /host rw - 9p hostshare rw
46 27 0:50 / /homework rw - btrfs /dev/vdd rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/x.db", "ext4"), ("/home/x.db", "nfs4"), ("/home/ann/local/x.db", "xfs"), ("/homework/x.db", "btrfs"),
        ("/mnt/with space/x.db", "cifs"), ("/mnt/over/x.db", "fuse.sshfs"), ("/host/a/b.db", "9p"),
    ],
)  # fmt: skip
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_and_a_shared_one_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    for path in ("/home/x.db", "/mnt/with space/x.db", "/mnt/over/x.db"):
        with pytest.raises(BadDatabase, match=r"network file system .* a disk of this machine"):
            check_place(Path(path), mounts)
    assert "whether locks hold there is not known" in check_place(Path("/host/x.db"), mounts)
    assert check_place(Path("/data/x.db"), mounts) == ""
    assert check_place(Path("/home/x.db"), tmp_path / "no such file") == ""
    kinds = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ceph",
        "glusterfs",
        "lustre",
        "afs",
        "fuse.s3fs",
        "fuse.glusterfs",
    ]
    refused = [kind for kind in kinds if checkup.NETWORK.fullmatch(kind)]
    assert refused == [kind for kind in kinds if kind != "glusterfs"]  # it is always mounted through fuse
    assert not [kind for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay") if checkup.NETWORK.fullmatch(kind)]

    mounts.write_text(f"1 0 0:1 / {tmp_path} rw - nfs4 filer:/x rw\n")
    monkeypatch.setattr(checkup.check_place, "__defaults__", (mounts,))
    with pytest.raises(BadDatabase, match="network file system"):
        Store(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def fill(store: Store, study: Study) -> None:
    """Rows in the tables that matter, on several pages each."""
    store.policies.add(Policy("p", "p", "imported"))
    with store.write():
        for number in range(30):
            (prompt,) = store.prompts.add([{"messages": [{"role": "user", "content": f"Question {number * 104729}?"}]}])
            texts = [f"{number} {index} " + "word " * 300 for index in range(2)]
            answers = [Response.make(prompt.id, "p", text, number, index) for index, text in enumerate(texts)]
            store.responses.add(answers)
            made = store.comparisons.add(study, prompt.id, answers)
            assert made
            who = store.annotators.add(f"ann {number}", "annotator", "")
            store.rankings.add_imported(who, made, [[item] for item in made.items])


def content(path: Path) -> list[tuple[object, ...]]:
    """Everything in a database."""
    with closing(sqlite3.connect(path)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        return [row for table in tables for row in db.execute(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("stride", [pytest.param(16, marks=pytest.mark.smoke), 1])
@pytest.mark.durability
def test_whichever_page_is_overwritten_the_database_is_refused_with_what_to_do(
    store: Store, study: Study, tmp_path: Path, stride: int
) -> None:
    """Every page in turn (of the smoke test every 16th), by zeros and by noise. What opens has lost nothing."""
    fill(store, study)
    store.settle()
    whole = tmp_path / "whole.db"
    shutil.copyfile(store.path, whole)
    store.close()
    before, bytes_ = content(whole), whole.read_bytes()
    size, draw, refused, pages = 4096, random.Random(4), 0, 0
    for page in range(0, len(bytes_) // size, stride):
        for garbage in (bytes(size), draw.randbytes(size)):
            pages += 1
            path = tmp_path / "damaged.db"
            path.write_bytes(bytes_[: page * size] + garbage + bytes_[(page + 1) * size :])
            try:
                opened = Store(path)
                opened.check()
                opened.close()
                assert content(path) == before, page
            except BadDatabase as error:
                assert "labeler restore" in str(error) and "docs/operate.md" in str(error)
                refused += 1
    assert refused > 0.9 * pages


def test_a_database_that_cannot_be_written_is_refused(store: Store) -> None:
    store.db.execute("PRAGMA query_only = ON")
    with pytest.raises(BadDatabase, match="cannot be written"):
        store.check()
    store.close()
    assert store.check() == ""


def test_one_that_another_program_holds_is_another_matter(store: Store) -> None:
    store.db.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="no other program holds it"):
            store.check()
    assert store.check() == ""
