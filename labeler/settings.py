"""The settings of a labeler."""

import re
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from labeler.accounts import IDLE_SECONDS, SESSION_SECONDS, TRIES_A_MINUTE
from preferences.errors import RankloopError

ROOT_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
HOST_NAME = re.compile(r"[a-z0-9.-]{1,253}|\[[0-9a-f:.]+\]")
OURS = ("api", "app", "favicon.ico", "healthz", "join", "login", "logout", "manifest.json", "ops", "readyz", "study")
AT_LEAST_1 = (
    "session_seconds",
    "idle_seconds",
    "tries_a_minute",
    "requests_a_minute",
    "requests_a_minute_here",
    "connections_here",
    "body_bytes",
)


class BadSettings(RankloopError, ValueError):
    """A labeler cannot be started like that; the message has one sentence for each mistake."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What whoever starts a labeler may change."""

    session_seconds: int = SESSION_SECONDS
    """How long a login lasts at most."""
    idle_seconds: int = IDLE_SECONDS
    """How long it lasts while nothing is done; it may end a tenth of that sooner."""
    tries_a_minute: int = TRIES_A_MINUTE
    """Wrong passwords a minute, for each account and for each address, before logins are refused."""
    requests_a_minute: int = 6_000
    """Requests that one account may send."""
    requests_a_minute_here: int = 60_000
    """Requests that one address may send; a whole office may share one."""
    connections_here: int = 2_000
    """Connections that one address may have open; those of trusted proxies are not counted."""
    body_bytes: int = 256 * 1024
    """The largest request body that is read."""
    hosts: tuple[str, ...] = ()
    """Names by which browsers call the labeler, without ports; requests for others are refused. By default any is taken."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies that are believed about the browser's address, host and https; none by default."""
    root_path: str = ""
    """The path below which a proxy publishes the labeler, such as /rank."""
    runs: Path | None = None
    """Folder of the runs of workers on other hosts; default `runs` beside the database."""
    low_disk_mb: int = 1000
    """Free megabytes on the database's disk below which the alarm is raised."""

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} must be at least 1, not {getattr(self, name)}." for name in AT_LEAST_1 if getattr(self, name) < 1
        ]
        mistakes += [
            f"A trusted proxy is an address or a network such as 10.0.0.0/8, not {proxy!r}."
            for proxy in self.trusted_proxies
            if not is_network(proxy)
        ]
        mistakes += [
            f"The hosts are names or addresses without ports, such as rank.example, not {host!r}."
            for host in self.hosts
            if not HOST_NAME.fullmatch(host)
        ]
        if not ROOT_PATH.fullmatch(self.root_path) or self.root_path.split("/")[1:2] in [[name] for name in OURS]:
            mistakes.append(
                f'The root path is "" or like /rank, ends in no slash and does not begin with a path of ours '
                f"({', '.join(OURS)}); it cannot be {self.root_path!r}."
            )
        if mistakes:
            raise BadSettings(" ".join(mistakes))


def is_network(text: str) -> bool:
    """Whether it is an address or a network of addresses."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
