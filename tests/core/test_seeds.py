from __future__ import annotations

from zenopt.core.seeds import derive_rng, derive_seed


def test_seeds_depend_on_every_argument_and_nothing_else() -> None:
    arguments = [
        (seed, number, purpose) for seed in (0, 1, 10) for number in (0, 1, 10) for purpose in ("a", "ab")
    ]
    seeds = [derive_seed(*item) for item in arguments]
    assert len(set(seeds)) == len(arguments)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [derive_seed(*item) for item in arguments]


def test_seeds_are_the_same_on_every_machine() -> None:
    # Stored studies resume by these numbers, so they must not change: sha256 of "score:7:3", its first 8 bytes halved.
    assert derive_seed(7, 3, "score") == 7108243831017785740
    assert derive_rng(7, 3, "score").random() == 0.18076742538199742
