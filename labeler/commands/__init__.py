"""The subcommands of `labeler`, one module a noun; each is a dataclass with a `run`."""
