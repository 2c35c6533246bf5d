"""The scripts and the shape of the source: what a newcomer meets first."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = [path for folder in ("scripts", ".ci") for path in sorted((ROOT / folder).iterdir()) if path.is_file()]
BASH = [path for path in SCRIPTS if path.read_text().startswith("#!/usr/bin/env bash\n")]
PRODUCT = [
    path
    for folder in ("preferences", "labeler", "trainer")
    for pattern in ("*.py", "*.js", "*.css")
    for path in sorted((ROOT / folder).rglob(pattern))
]
PROJECT_FILES = [*PRODUCT, *SCRIPTS, *(ROOT / name for name in ("pyproject.toml", "constraints.txt", "CHANGELOG.md"))]
HOSTS = {
    "127.0.0.1", "localhost", "arxiv.org", "download.pytorch.org", "github.com", "huggingface.co", "keepachangelog.com",
    "semver.org", "www.w3.org",
}  # fmt: skip


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in SCRIPTS if not path.suffix], ids=name)
def test_a_script_can_be_run(path: Path) -> None:
    assert path.read_text().startswith("#!")
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", BASH, ids=name)
def test_a_bash_script_is_valid_and_stops_at_the_first_error(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    assert "\nset -euo pipefail\n" in path.read_text()


def test_a_source_file_has_at_most_350_lines() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in PRODUCT}
    assert {path: length for path, length in lengths.items() if length > 350} == {}


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    for path in PROJECT_FILES:
        text = path.read_text()
        assert re.findall(r"(?<![\w.])/(?:work|home|root|opt|Users)/\S*", text) == [], name(path)
        assert set(re.findall(r"https?://([\w.-]+)", text)) <= HOSTS, name(path)


def test_continuous_integration_runs_the_same_scripts() -> None:
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[-2:] == ["scripts/check", "scripts/test"]


def test_constraints_are_exact_and_hold_on_every_machine() -> None:
    """No local builds ("+cpu"), paths or addresses."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\d.]+(?:\.?(?:post|rc|a|b)\d+)?", line)] == []
    assert {"torch", "transformers", "trl", "peft", "gradio"} <= {line.split("==")[0] for line in lines}


# A Python that pretends: `-m venv X` makes X with itself in it, `-c` and pip only note what they were asked for.
FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
if [[ $1 == -m && $2 == venv ]]; then
    mkdir -p "$3/bin" "$3/lib/python3.11/site-packages/torch"
    cp "$0" "$3/bin/python"
fi
if [[ $1 == -c && $2 == *urlopen* ]]; then exit "${UNREACHABLE:-0}"; fi
if [[ $1 == -c && $2 == *version_info* ]]; then exit "${TOO_OLD:-0}"; fi
if [[ $1 == -c && $2 == *version* ]]; then cat "$TORCH" 2>/dev/null; fi
if [[ $1 == --version ]]; then echo "Python 3.11.0"; fi
"""


class Checkout:
    """A copy of what scripts/install reads, on a machine whose Python, nvidia-smi, chromium and torch are pretended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.torch = folder / "torch"
        (folder / "scripts").mkdir()
        self.bin.mkdir()
        for path in ("scripts/install", "pyproject.toml", "constraints.txt"):
            (folder / path).write_bytes((ROOT / path).read_bytes())
        self.command("python3", FAKE_PYTHON)
        self.command("chromium", "#!/bin/sh\n")
        self.command("nvidia-smi", "#!/bin/sh\nexit 1\n")

    def command(self, name: str, text: str) -> None:
        """Put a command on the PATH."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def install(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/install; `calls` has what was asked of Python this time."""
        self.calls.write_text("")
        known = {"PATH": f"{self.bin}:/usr/bin:/bin", "CALLS": str(self.calls), "TORCH": str(self.torch)}
        return subprocess.run(
            ["bash", "scripts/install", *options],
            cwd=self.folder, env={**known, **environment}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def pip(self) -> list[str]:
        """What pip was asked for this time."""
        return [line.removeprefix("-m pip ") for line in self.calls.read_text().splitlines() if " pip " in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_install_takes_torch_for_the_cpu_from_its_own_index(checkout: Checkout) -> None:
    done = checkout.install()
    assert done.returncode == 0, done.stderr
    torch, package = checkout.pip()
    assert "--index-url" in torch and torch.endswith("torch==2.13.0")
    assert package.endswith("-e .[train,demo] -c .venv/constraints.txt")
    assert "torch==2.13.0" in (checkout.folder / ".venv/constraints.txt").read_text()
    assert "about 200 MB" in done.stdout and "(cpu)" in done.stdout


def test_install_does_without_that_index(checkout: Checkout) -> None:
    done = checkout.install(UNREACHABLE="1")
    assert done.returncode == 0, done.stderr
    assert len(checkout.pip()) == 1
    assert "default index" in done.stdout


def test_install_follows_the_driver_and_leaves_torch_to_it(checkout: Checkout) -> None:
    checkout.command("nvidia-smi", "#!/bin/sh\nexit 0\n")
    done = checkout.install()
    assert done.returncode == 0, done.stderr
    assert len(checkout.pip()) == 1
    constraints = (checkout.folder / ".venv/constraints.txt").read_text()
    assert "torch==" not in constraints and "trl==" in constraints
    assert "about 3 GB" in done.stdout and "(gpu)" in done.stdout


def test_a_second_install_is_quiet_and_quick(checkout: Checkout) -> None:
    checkout.install("--dev", "--cpu")
    for options in (["--dev"], [], ["--cpu"]):
        began = time.monotonic()
        done = checkout.install(*options)
        assert (done.returncode, done.stdout, done.stderr, checkout.calls.read_text()) == (0, "", "", "")
        assert time.monotonic() - began < 1


def test_install_again_when_something_changed(checkout: Checkout) -> None:
    checkout.install()
    assert "rankloop[train,demo,dev]" in checkout.install("--dev").stdout
    with (checkout.folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert "rankloop[train,demo]" in checkout.install().stdout
    assert "rankloop[train,demo,dev]" in checkout.install("--dev").stdout


def test_another_build_replaces_torch_and_is_remembered(checkout: Checkout) -> None:
    checkout.install()
    checkout.torch.write_text("2.13.0+cpu\n")
    assert checkout.install("--gpu").returncode == 0
    assert checkout.pip()[0] == "uninstall --quiet --yes torch"
    assert checkout.install().stdout == ""
    checkout.torch.write_text("2.14.0\n")
    assert checkout.install("--cpu").returncode == 0
    assert "--force-reinstall" in checkout.pip()[0]


def test_a_failed_install_is_tried_again(checkout: Checkout) -> None:
    checkout.command("python3", FAKE_PYTHON + '[[ "$*" != *"pip install"* ]]\n')
    assert checkout.install().returncode != 0
    assert checkout.install().returncode != 0
    assert checkout.pip()


def test_constraints_can_be_others_or_none(checkout: Checkout) -> None:
    checkout.install(RANKLOOP_CONSTRAINTS="")
    assert checkout.pip()[-1].endswith("-e .[train,demo]")
    (checkout.folder / "mine.txt").write_text("torch==2.9.0\n")
    checkout.install(RANKLOOP_CONSTRAINTS="mine.txt")
    assert (checkout.folder / ".venv/constraints.txt").read_text() == "torch==2.9.0\n"
    refused = checkout.install(RANKLOOP_CONSTRAINTS="missing.txt")
    assert refused.stderr == "install: there is no constraints file missing.txt.\n"


@pytest.mark.parametrize(
    ("options", "environment", "sentence"),
    [
        (["--quick"], {}, "unknown option --quick"),
        ([], {"TOO_OLD": "1", "PYTHON": "python3"}, "Python 3.11 or newer is needed"),
        ([], {"PYTHON": "no-such-python"}, "Python 3.11 or newer is needed"),
    ],
)
def test_what_install_cannot_do_is_one_sentence(
    checkout: Checkout, options: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = checkout.install(*options, **environment)
    assert done.returncode == 2
    assert sentence in done.stderr and done.stderr.count("\n") == 1
    assert not (checkout.folder / ".venv").exists()
