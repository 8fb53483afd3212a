from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.loading.philox import Streams, philox

ALL = 2**32 - 1


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ALL, ALL, ALL, ALL), 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox4x32_matches_the_known_answers_of_random123(counter: tuple[int, ...], key: int, expected: str) -> None:
    words = philox(np.array([counter], dtype=np.uint32), key)
    assert words.dtype == np.uint32
    assert " ".join(f"{word:08x}" for word in words[0]) == expected


def test_each_counter_is_processed_independently() -> None:
    counters = np.random.default_rng(0).integers(0, 2**32, (50, 4), dtype=np.uint32)
    whole = philox(counters, 7)
    assert all((philox(counters[row : row + 1], 7)[0] == whole[row]).all() for row in range(50))


def test_philox4x64_matches_the_known_answer_of_random123() -> None:
    """Check the published vector of Philox4x64-10 whose key and counter streams can have."""
    assert _hex(Streams(0).words(4, 0)) == "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"


@given(key=st.integers(0, 2**64 - 1), stream=st.integers(0, 2**64 - 1), count=st.integers(0, 50))
def test_streams_equal_those_of_numpy(key: int, stream: int, count: int) -> None:
    """NumPy increments the counter before it makes four words."""
    generator = np.random.Philox(key=key, counter=((stream << 64) - 1) % 2**256)
    assert Streams(key).words(count, stream).tolist() == generator.random_raw(count).tolist()


@pytest.mark.parametrize(("key", "stream"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**64)])
def test_a_key_or_stream_of_more_than_64_bits_is_rejected(key: int, stream: int) -> None:
    with pytest.raises(OverflowError):
        Streams(key).words(4, stream)


def test_streams_of_a_key_do_not_overlap() -> None:
    drawn = [tuple(Streams(7).words(64, stream).tolist()) for stream in (0, 1, 2, 2**32, 2**63, 2**64 - 1)]
    assert len({word for words in drawn for word in words}) == 6 * 64
    assert Streams(7).words(10, 3).tolist() == Streams(7).words(64, 3)[:10].tolist()


def _hex(words: np.ndarray) -> str:
    return " ".join(f"{word:016x}" for word in words.tolist())


@given(size=st.integers(0, 300), key=st.integers(0, 2**64 - 1), stream=st.integers(0, 2**64 - 1))
@hypothesis_settings(max_examples=50, deadline=None)
def test_a_permutation_contains_each_index_once(size: int, key: int, stream: int) -> None:
    drawn = Streams(key).permutation(size, stream)
    assert drawn.dtype == np.int64
    assert sorted(drawn.tolist()) == list(range(size))
    assert (Streams(key).permutation(size, stream) == drawn).all()


def test_another_key_or_stream_gives_a_different_permutation() -> None:
    drawn = {
        tuple(Streams(key).permutation(20, stream).tolist())
        for key in (0, 1, 2**32, 2**63)
        for stream in (0, 1, 2**32, 2**63, 2**64 - 1)
    }
    assert len(drawn) == 20


def test_permutations_match_recorded_values() -> None:
    """The order of rows of resumed trainings depends on these values."""
    assert Streams(0).permutation(8, 0).tolist() == GOLDEN[0]
    assert Streams(0x0123456789ABCDEF).permutation(9, 2**63).tolist() == GOLDEN[1]


GOLDEN = ([4, 0, 6, 5, 3, 7, 2, 1], [4, 7, 0, 6, 8, 2, 3, 5, 1])


def test_all_indices_are_equally_likely() -> None:
    first = np.bincount([Streams(1).permutation(5, stream)[0] for stream in range(5000)], minlength=5)
    assert abs(first - 1000).max() < 150  # five standard deviations
