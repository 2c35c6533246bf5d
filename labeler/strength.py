"""How hard a password is to guess."""

FEWEST_GUESSES = 10**6  # at five a minute they take 139 days
LOOKED_AT = 72  # characters: the estimate takes time that grows faster than the password
OURS = ("rankloop", "labeler")


def is_guessable(password: str, name: str = "") -> bool:
    """Whether somebody who knows the account's name finds it within a million guesses, as zxcvbn estimates (Wheeler 2016)."""
    from zxcvbn import zxcvbn  # only who sets a password waits for its lists of words

    known = [word for word in (name, *OURS) if word]
    return bool(zxcvbn(password[:LOOKED_AT], user_inputs=known)["guesses"] < FEWEST_GUESSES)
