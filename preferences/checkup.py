"""What must hold before a database is worked with: whole pages, a disk that can be written, no network in between."""

import re
import sqlite3
from pathlib import Path

from preferences.errors import BadDatabase, Busy

# File systems of other machines: locks and shared memory, which SQLite's log needs, do not hold on them.
NETWORK = re.compile(
    r"(nfs\d*|cifs|smb\w*|ncpfs|afs|coda|ceph|gfs2?|ocfs2|lustre|beegfs\w*|gpfs|pvfs2|orangefs|davfs2?|"
    r"fuse\.(sshfs|s3fs|rclone|gcsfuse|glusterfs|ceph|curlftpfs|davfs2?|juicefs|mfs|lizardfs|blobfuse2?|smbnetfs|nfs\w*))"
)
SHARED = re.compile(
    r"9p|virtiofs|vboxsf|vmhgfs|prl_fs|fuse(\.\w+)*"
)  # of a host, or of a program: some hold, some do not
MOUNTS = Path("/proc/self/mountinfo")
RESTORE = (
    "Stop what uses it and restore the newest backup with `labeler restore BACKUP --db {path}`, which keeps the damaged file "
    "under another name; docs/operate.md says how to save what came after the backup."
)


def check_place(path: Path, mounts: Path = MOUNTS) -> str:
    """A warning if it is not known whether the file system's locks hold, else "". Raises BadDatabase on a network's.

    `mounts`: the kernel's list of them; where there is none (not Linux) nothing is said.
    """
    try:
        kind = file_system(path.resolve(), mounts.read_text())
    except OSError:
        return ""
    if NETWORK.fullmatch(kind):
        raise BadDatabase(
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold and answers could be lost; "
            "give a --db on a disk of this machine, and put backups there instead."
        )
    if SHARED.fullmatch(kind):
        return (
            f"{path} is on a file system of kind {kind}: whether locks hold there is not known. Answers could be lost; a "
            "disk of this machine is safe."
        )
    return ""


def file_system(path: Path, mounts: str) -> str:
    """The kind of file system that an absolute path is on, by the text of /proc/self/mountinfo; "" if it does not say."""
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), before.split(" ")[4])
        if len(point) >= len(best) and path.is_relative_to(point):  # of two at one place the later one is seen
            best, kind = point, after.split(" ")[0]
    return kind


def check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Raises BadDatabase, with what to do, if a page of the database is damaged."""
    damage = first_damage(connection)
    if damage:
        raise BadDatabase(f"{path} is damaged ({damage}). {RESTORE.format(path=path)}")


def first_damage(connection: sqlite3.Connection) -> str:
    """What `PRAGMA quick_check` finds first, as one line; "" if all is well."""
    try:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        raise  # busy, or not to be read: that says nothing about its pages
    except sqlite3.DatabaseError as error:
        found = str(error)
    return "" if found == "ok" else " ".join(found.replace("*** in database main ***", "").split())


def check_writable(connection: sqlite3.Connection, path: Path) -> None:
    """Raises BadDatabase if nothing can be written: a read-only file, folder or disk; Busy if another program holds it."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        raise (Busy if is_busy(error) else BadDatabase)(
            f"{path} cannot be written ({error}); check the permissions of the file and of its folder, and that no other "
            "program holds it."
        ) from error


def is_busy(error: Exception) -> bool:
    """Whether a lock of another program was waited for in vain."""
    return (
        isinstance(error, sqlite3.OperationalError)
        and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    )
