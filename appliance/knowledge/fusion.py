"""How several rankings of chunks become one. Pure.

Scores of different kinds are brought to 0..1 within each list and added with weights. On the three sets that
it was tuned on this beats adding reciprocal ranks; docs/KNOWLEDGE.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Ranking = Mapping[int, float]  # chunk id → score; higher is better

RANK_OFFSET = 10


def scaled(ranking: Ranking) -> dict[int, float]:
    """The scores, the lowest becoming 0 and the highest 1."""
    if not ranking:
        return {}
    low, high = min(ranking.values()), max(ranking.values())
    if high == low:
        return dict.fromkeys(ranking, 1.0)
    return {id: (score - low) / (high - low) for id, score in ranking.items()}


def reciprocal(ranking: Ranking) -> dict[int, float]:
    """1 / (offset + rank), as in Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion", 2009."""
    order = sorted(ranking, key=lambda id: -ranking[id])
    return {id: 1 / (RANK_OFFSET + rank) for rank, id in enumerate(order, 1)}


def blended(parts: Sequence[tuple[float, Ranking]]) -> dict[int, float]:
    """The weighted sum of rankings, best first; a chunk that one lacks gets nothing from it."""
    total: dict[int, float] = {}
    for weight, ranking in parts:
        for id, score in ranking.items():
            total[id] = total.get(id, 0.0) + weight * score
    return dict(sorted(total.items(), key=lambda entry: (-entry[1], entry[0])))


def fed_back(
    query: NDArray[np.float32], found: NDArray[np.float32], scores: NDArray[np.float32], temperature: float
) -> NDArray[np.float32]:
    """The query moved towards what was found first: Rocchio's feedback, weighted by the scores' softmax.

    `query`: [dimensions]; `found`: [n, dimensions], with its scores [n]. Of length 1.
    """
    weights = np.exp((scores - scores.max()) / temperature)
    moved = query + (weights / weights.sum()) @ found
    length = max(float(np.linalg.norm(moved)), 1e-12)
    return np.asarray(moved / length, np.float32)
