"""The settings of a labeler."""

from dataclasses import dataclass

from labeler.accounts import SESSION_SECONDS, TRIES_A_MINUTE


@dataclass(frozen=True, slots=True)
class Settings:
    """What whoever starts a labeler may change."""

    session_seconds: int = SESSION_SECONDS
    """How long a login lasts."""
    tries_a_minute: int = TRIES_A_MINUTE
    """Wrong passwords a minute, for each account and for each address, before logins are refused."""
    body_bytes: int = 256 * 1024
    """The largest request body that is read."""

    def __post_init__(self) -> None:
        for name in ("session_seconds", "tries_a_minute", "body_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
