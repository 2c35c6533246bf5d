"""What a user can do wrong. Each message is one sentence: what was wrong, where, and the remedy."""


class RankloopError(Exception):
    """A mistake that its user can mend; the command line prints the message alone and exits with 2."""


class BadDatabase(RankloopError):
    """The database cannot be opened: not SQLite, damaged, or made by a newer version."""


class Busy(BadDatabase):
    """Another program holds the database; a later try may find it free."""


class BadRecord(RankloopError):
    """A line of an imported file is malformed; the message names file and line."""


class UnknownName(RankloopError):
    """No study, policy, prompt, comparison or annotator of that name or id."""


class NameTaken(RankloopError):
    """A study, policy or annotator of that name exists already."""


class NotLeased(RankloopError):
    """The comparison is not leased to this annotator now."""


class BadTiers(RankloopError):
    """The tiers do not place every response of the comparison exactly once."""


class BadAnswer(RankloopError):
    """A strength, flag, rating or rewrite that does not fit the comparison or its study."""


class NonceUsed(RankloopError):
    """This submission was stored before; `ranking` is the id of the stored row."""

    def __init__(self, message: str, ranking: str) -> None:
        super().__init__(message)
        self.ranking = ranking


class NothingToUndo(RankloopError):
    """The annotator has no submitted ranking or skip that could be undone."""


class NotReady(RankloopError):
    """Something that the annotator waits for is still under way."""


class NotHeld(RankloopError):
    """The job is no longer this worker's: it was stopped, or another one has it."""


class BadUpload(RankloopError):
    """What a worker sent is not what it says that it is, or nothing that a worker sends."""


class NoRoom(RankloopError):
    """The disk has too little room for what a worker wants to send."""
