"""What is there for operating it fits the program: units, container, documents."""

import configparser
import re
import shlex
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from labeler.__main__ import main as labeler
from preferences.cli import MISTAKE, guarded
from preferences.errors import BadDatabase, Busy
from tests.conftest import ROOT

pytestmark = [pytest.mark.durability, pytest.mark.smoke]
OPERATE = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
UNITS = sorted((ROOT / "deploy").glob("*.service"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a subcommand of the labeler."""
    with pytest.raises(SystemExit):
        labeler([*command.split(), "--help"])
    return capsys.readouterr().out


def commands() -> list[str]:
    """Every command line of the labeler in units, container and document."""
    found = [unit_of(unit)["Service"]["ExecStart"].rpartition("/bin/")[2] for unit in UNITS]
    found.append(" ".join(re.findall(r'"([^"]*)"', DOCKERFILE.rpartition("CMD [")[2])))
    found += re.findall(r"(?:^|exec rankloop )(labeler .*?)(?:#.*)?$", f"{OPERATE}\n{DOCKERFILE}", re.MULTILINE)
    return [command for command in found if command.startswith("labeler")]


def unit_of(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_every_option_in_units_container_and_document_exists(capsys: pytest.CaptureFixture[str]) -> None:
    found = commands()
    assert len(found) > 8
    for command in found:
        words = shlex.split(command.partition("<<<")[0].partition(">")[0].partition("|")[0])
        name = " ".join(words[1:3]) if words[1] == "people" else words[1]
        said = options_of(name, capsys)
        for option in [word for word in words if word.startswith("--")]:
            assert re.search(rf"{option}\b", said), command


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_units_drain_and_do_not_run_as_root(unit: Path) -> None:
    service = unit_of(unit)["Service"]
    assert service["User"] == "rankloop" and service["NoNewPrivileges"] == "yes"
    if service["Type"] == "exec":
        from labeler.commands.serve import GRACE_SECONDS

        assert int(service["TimeoutStopSec"]) > GRACE_SECONDS
        assert service["Restart"] in ("always", "on-failure")
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", *map(str, [*UNITS, *(ROOT / "deploy").glob("*.timer")])]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
        assert [line for line in said if "is not executable" not in line] == []  # it is not installed here


@pytest.mark.parametrize("name", ["rankloop.service", "rankloop-worker.service"])
def test_however_often_it_is_killed_the_service_starts_again(name: str) -> None:
    """And its helper processes live until it has ended by itself."""
    unit = unit_of(ROOT / "deploy" / name)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0" and "StartLimitBurst" not in unit["Unit"]
    assert unit["Service"]["KillMode"] == "mixed"
    if name == "rankloop.service":
        assert unit["Service"]["RestartPreventExitStatus"] == str(MISTAKE)
        assert int(unit["Service"]["LimitNOFILE"]) >= 65536


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadDatabase("Damaged."), 2), (Busy("Held."), 75), (sqlite3.OperationalError("database or disk is full"), 75),
        (sqlite3.DatabaseError("malformed"), 2),
    ],
)  # fmt: skip
def test_what_passes_is_told_from_what_is_refused_at_every_start(error: Exception, status: int) -> None:
    def broken() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        guarded(broken)
    assert ended.value.code == status


def test_the_container_keeps_its_data_in_a_volume_and_does_not_run_as_root() -> None:
    for words in ("VOLUME /data", "USER rankloop", "STOPSIGNAL SIGTERM", "/readyz", "/data/rankloop.db"):
        assert words in DOCKERFILE
    assert DOCKERFILE.index("USER rankloop") > DOCKERFILE.index("pip install")
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())


def test_every_test_that_the_document_names_exists() -> None:
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)\(", written, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", OPERATE))
    assert named - there == set() and len(named) > 12
