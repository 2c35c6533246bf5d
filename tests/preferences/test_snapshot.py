"""Reading at one moment."""

import pytest

from preferences.store import Store


def test_a_snapshot_inside_another_is_part_of_it(store: Store) -> None:
    """It reads the same moment, and its end does not end the outer one."""
    other = Store(store.path)
    with store.snapshot():
        before = len(store.studies.all())
        other.studies.create("meanwhile")
        with store.snapshot():
            assert len(store.studies.all()) == before
        assert len(store.studies.all()) == before
        with pytest.raises(AssertionError, match="Nothing may be written"):
            store.studies.create("inside")
    assert len(store.studies.all()) == before + 1


def test_a_snapshot_inside_a_write_sees_what_is_written_and_keeps_it(store: Store) -> None:
    with store.write():
        store.studies.create("first")
        with store.snapshot():
            assert [study.name for study in store.studies.all()] == ["first"]
        store.studies.create("second")
    assert len(Store(store.path).studies.all()) == 2
