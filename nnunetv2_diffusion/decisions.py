"""From probabilities or samples to a mask: the one of greatest expected Dice, where an argmax is that of fewest errors.

Plain NumPy over arrays [K, ...], a head a structure, without the background where labels compete. Dice takes two empty
masks for 1. The Dice of several structures is the mean over them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ROUNDS = 10  # of reassigning contested pixels; most images settle in two or three


class ExpectedDice(NamedTuple):
    """A structure's mask, boolean, and 2 Σp / (Σp + k) of it, the expected Dice as ratio of expectations."""

    mask: np.ndarray
    dice: float


def greatest_expected_dice(probabilities: np.ndarray) -> ExpectedDice:
    """The k most probable pixels of a structure, as many as maximise 2 Σp_top / (Σp + k) (Dai and Li 2023, RankSEG).

    The greatest value D is reached by the pixels of p above D / 2: a threshold that falls below one half where the
    structure is unsure. The expected size Σp stands for the size of the true mask, which is RankSEG's approximation for
    large structures.

    The mask is empty where that is the better bet, with probability Π(1 - p), pixels taken as independent: otherwise a
    structure that is not there would always get its least improbable pixel.

    Args:
        probabilities: of the structure, any shape, in [0, 1].
    """
    ranked = np.sort(probabilities, axis=None)[::-1].astype(np.float64)
    dice = 2 * np.cumsum(ranked) / (ranked.sum() + np.arange(1, ranked.size + 1))
    best = int(dice.argmax())
    if _probability_of_none(ranked) >= dice[best]:
        return ExpectedDice(np.zeros(probabilities.shape, dtype=bool), _probability_of_none(ranked))
    return ExpectedDice(probabilities >= ranked[best], float(dice[best]))


def expected_dice(masks: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Expected Dice [K] of masks [K, ...], see `greatest_expected_dice`, given the probabilities [K, ...]."""
    found = []
    for mask, p in zip(masks, probabilities.astype(np.float64), strict=True):
        found.append(2 * p[mask].sum() / (p.sum() + np.count_nonzero(mask)) if mask.any() else _probability_of_none(p))
    return np.array(found)


def region_masks(probabilities: np.ndarray) -> np.ndarray:
    """Each region's mask of greatest expected Dice, on its own; boolean [K, ...] of probabilities [K, ...]."""
    return np.stack([greatest_expected_dice(p).mask for p in probabilities])


def competing_masks(probabilities: np.ndarray) -> np.ndarray:
    """Masks of high mean expected Dice where each pixel goes to one structure at most.

    Each structure first claims its own mask of greatest expected Dice D, of k pixels. A pixel is then worth
    (2 p - D) / (Σp + k) to a structure, which is what its Dice gains by one more pixel of probability p; it goes to the
    structure to which it is worth most, and to the background where it is worth nothing to any. That changes D and k,
    so it is done again until nothing moves, at most `ROUNDS` times. Of all these masks, and those of the argmax, the
    best are returned: they are never worse than the argmax. Small structures win contested pixels from large ones,
    whose Dice hardly feels them.

    Args:
        probabilities: [K, ...] of the structures; with the background's they add up to 1.

    Returns:
        boolean [K, ...], no pixel in two of them.
    """
    p = probabilities.astype(np.float64)
    claims = [greatest_expected_dice(one) for one in p]
    masks, dice = np.stack([claim.mask for claim in claims]), np.array([claim.dice for claim in claims])
    best = _argmax_masks(p)
    best_value = expected_dice(best, p).mean()
    wanted = masks.reshape(len(p), -1).any(axis=1)
    for _ in range(ROUNDS):
        assigned = _assigned(p, masks, np.where(wanted, dice, np.inf))
        dice = expected_dice(assigned, p)
        if dice.mean() > best_value:
            best, best_value = assigned, dice.mean()
        if (assigned == masks).all():
            break
        masks = assigned
    return best


def mean_dice_of_samples(candidates: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Mean over samples and structures of the Dice of each candidate, [C].

    Args:
        candidates: boolean [C, K, ...].
        samples: boolean [S, K, ...].
    """
    total = np.zeros(len(candidates))
    for structure in range(samples.shape[1]):
        first, second = (masks[:, structure].reshape(len(masks), -1) for masks in (candidates, samples))
        sizes = first.sum(axis=1)[:, None] + second.sum(axis=1)[None]
        shared = first.astype(np.float32) @ second.astype(np.float32).T
        total += np.divide(2 * shared, sizes, out=np.ones(sizes.shape), where=sizes > 0).mean(axis=1)
    return total / samples.shape[1]


def candidates_of(samples: np.ndarray, *, competing: bool) -> np.ndarray:
    """Masks worth trying against samples [S, K, ...]: boolean [C, K, ...].

    The samples themselves; for each j = 1 … S the pixels that at least j samples give to a structure; for each
    structure the j that fits its own samples best; and what `competing_masks` or `region_masks` make of the shares of
    samples. Where labels compete, a pixel that two structures get so goes to that which more samples give it to, the
    first one on a tie.
    """
    count = len(samples)
    votes = samples.sum(axis=0)
    levels = np.stack([votes >= level for level in range(1, count + 1)])
    chosen = []
    for structure in range(samples.shape[1]):
        own = slice(structure, structure + 1)
        chosen.append(levels[mean_dice_of_samples(levels[:, own], samples[:, own]).argmax(), structure])
    decided = competing_masks(votes / count) if competing else region_masks(votes / count)
    drawn_up = np.concatenate([levels, np.stack(chosen)[None], decided[None]])
    if competing:
        winner = np.where(drawn_up, votes, 0).argmax(axis=1)
        drawn_up &= np.stack([winner == structure for structure in range(len(votes))], axis=1)
    return np.concatenate([samples.astype(bool), drawn_up])


def greatest_mean_dice(samples: np.ndarray, *, competing: bool, others: np.ndarray | None = None) -> np.ndarray:
    """The candidate of greatest mean Dice against the samples; boolean [K, ...].

    Unlike the masks from probabilities, it knows which pixels come together.

    Args:
        samples: boolean [S, K, ...].
        competing: no pixel belongs to two structures (labels) rather than each being a mask of its own (regions).
        others: more candidates [C, K, ...] beside `candidates_of`, such as the masks from the fused probabilities.
    """
    candidates = candidates_of(samples, competing=competing)
    if others is not None:
        candidates = np.concatenate([candidates, others])
    return candidates[mean_dice_of_samples(candidates, samples).argmax()]


def _probability_of_none(probabilities: np.ndarray) -> float:
    """Π(1 - p): that no pixel belongs to the structure, pixels taken as independent."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log1p(-probabilities.astype(np.float64).clip(0, 1)).sum()))


def _argmax_masks(probabilities: np.ndarray) -> np.ndarray:
    background = 1 - probabilities.sum(axis=0)
    winner = np.concatenate([background[None], probabilities]).argmax(axis=0)
    return np.stack([winner == label for label in range(1, len(probabilities) + 1)])


def _assigned(probabilities: np.ndarray, masks: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Each pixel to the structure to which it is worth most, if anything; boolean [K, ...]."""
    worth = np.empty_like(probabilities)
    for structure, (p, mask) in enumerate(zip(probabilities, masks, strict=True)):
        worth[structure] = (2 * p - dice[structure]) / (p.sum() + np.count_nonzero(mask))
    winner, wanted = worth.argmax(axis=0), worth.max(axis=0) > 0
    return np.stack([(winner == structure) & wanted for structure in range(len(probabilities))])
