from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from farandole.process.collection import paused_collection


@pytest.fixture(autouse=True)
def _unfreeze() -> Iterator[None]:
    """Give the objects of other tests back to the collector."""
    yield
    gc.unfreeze()
    gc.enable()


def test_collection_pauses_for_the_block_and_leaves_its_objects_out_afterwards() -> None:
    with paused_collection():
        assert not gc.isenabled()
        kept = [object() for _ in range(3)]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert all(kept)


def test_collection_continues_after_an_error() -> None:
    with pytest.raises(KeyError), paused_collection():
        raise KeyError
    assert gc.isenabled()


def test_collection_that_was_off_stays_off() -> None:
    gc.disable()
    with paused_collection():
        assert not gc.isenabled()
    assert not gc.isenabled()
