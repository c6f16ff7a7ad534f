import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.models.hashed_features import Features, compute_overlaps, hash_features

TEXT = st.text(st.sampled_from("ab c!é'\0Z\n"), max_size=12)


def ids_by_text(features: Features) -> list[list[int]]:
    return [part.tolist() for part in np.split(features.ids, features.ends[:-1])]


@given(
    st.lists(TEXT, min_size=1, max_size=6), st.integers(1, 3), st.sampled_from([(), (3,), (2, 4)])
)
def test_features_of_a_text_do_not_depend_on_its_batch(
    texts: list[str], words: int, letters: tuple[int, ...]
) -> None:
    together = hash_features(texts, 1 << 16, words, letters)
    word_hashes = np.split(together.words, together.word_ends[:-1])
    for number, text in enumerate(texts):
        alone = hash_features([text], 1 << 16, words, letters)
        assert sorted(ids_by_text(together)[number]) == sorted(ids_by_text(alone)[0])
        np.testing.assert_array_equal(word_hashes[number], alone.words)


def test_features_are_words_runs_of_words_and_runs_of_letters() -> None:
    features = hash_features(["Good film, good FILM", "good", "film"], 1 << 24, 2, ())
    first, good, film = (set(ids) for ids in ids_by_text(features))
    assert features.counts.tolist() == [9, 1, 1], "good film , good film, and four runs of two"
    assert good < first
    assert film < first
    assert len(first) == 3 + 3, "`good film` occurs twice"
    letters = hash_features(["abcd"], 1 << 24, 1, (3,))
    assert letters.counts.tolist() == [1 + 2], "the word, abc and bcd"


def test_run_of_words_never_spans_two_texts() -> None:
    assert hash_features(["a b", "c d"], 1 << 24, 2, ()).counts.tolist() == [3, 3]


def test_different_words_rarely_share_a_bucket() -> None:
    words = [f"word{number}" for number in range(20_000)]
    features = hash_features(words, 1 << 24, 1, ())
    expected = 20_000 - 20_000**2 / 2 / (1 << 24)
    assert len(set(features.ids.tolist())) > expected - 20, "no more collisions than by chance"


def test_overlaps_are_shares_of_words_that_occur_on_the_other_side() -> None:
    first = hash_features(["a b c d", "", "x"], 1 << 16, 2, ())
    second = hash_features(["b d e", "a", "x x y"], 1 << 16, 2, ())
    overlaps = compute_overlaps(first, second)
    np.testing.assert_allclose(overlaps, [[0.5, 2 / 3], [0, 0], [1, 2 / 3]], atol=1e-6)
