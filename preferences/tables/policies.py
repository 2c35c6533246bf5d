"""Policies: everything that answers prompts, and where each came from."""

from preferences.errors import NameTaken, UnknownName
from preferences.records import Policy
from preferences.tables.table import Table, from_row, to_row


class Policies(Table):
    """A policy row is how a trained model comes back to the annotators."""

    def add(self, policy: Policy) -> Policy:
        """Store a policy; the same id again changes nothing. Raises NameTaken if another one has its name."""
        with self.store.write():
            row = self.row("SELECT * FROM policies WHERE id = ?", policy.id)
            if row:
                return from_row(Policy, row)
            if self.row("SELECT 1 FROM policies WHERE name = ?", policy.name):
                raise NameTaken(f"There is a policy named {policy.name!r} already; choose another --name.")
            self.insert("policies", [{**to_row(policy), "created": policy.created or self.store.clock()}])
        return self.get(policy.id)

    def find(self, name: str) -> Policy | None:
        """The policy of that name or id, or None."""
        row = self.row("SELECT * FROM policies WHERE name = ? OR id = ?", name, name)
        return from_row(Policy, row) if row else None

    def get(self, name: str) -> Policy:
        """The policy of that name or id. Raises UnknownName."""
        policy = self.find(name)
        if policy is None:
            names = ", ".join(policy.name for policy in self.all()) or "none"
            raise UnknownName(f"There is no policy {name!r} (there are: {names}).")
        return policy

    def line(self, policy: Policy) -> list[Policy]:
        """What it was trained from, what that was trained from, and so on."""
        found = []
        while policy.parent:
            policy = self.get(policy.parent)
            found.append(policy)
        return found

    def anchor(self, policy: Policy) -> Policy:
        """The SFT policy that it comes from, however many rounds ago; without one, the first of its line. May be itself."""
        while policy.kind != "sft" and policy.parent:
            policy = self.get(policy.parent)
        return policy

    def all(self) -> list[Policy]:
        """Every policy, oldest first."""
        return [from_row(Policy, row) for row in self.rows("SELECT * FROM policies ORDER BY created, name")]
