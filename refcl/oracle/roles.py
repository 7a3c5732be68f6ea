"""Who is an anchor, whose positive and whose negative, as a recipe has it.

In:  a recipe, how many rows the inputs have, and what the caller says about them.
Out: the roles of all rows.
"""

from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.recipe import Recipe

RANK_0_MASKED = "oneself: the row of rank 0 is masked"


class Roles(NamedTuple):
    rows: Any  # (A,) which of all rows are anchors
    positive: Any  # (A,) column of the positive
    positives: Any  # (A, T) the same as a mask, in which there may be several
    negatives: Any  # (A, T)
    candidates: Any  # (A, T) negatives and the positive
    by_direction: tuple[Any, ...]  # the anchors of each direction


def roles_of_rows(recipe: Recipe, n: int, m: int, positive: Any, ignore: Any) -> Roles:
    """Say who is an anchor, a positive and a negative among the stacked rows of both inputs."""
    total = n + m
    first, second = np.arange(n), n + np.arange(m)
    if recipe.anchors == "first":
        rows: Any = first
        groups: tuple[Any, ...] = (first,)
    elif recipe.anchors == "second":
        rows, groups = second, (np.arange(m),)
    else:
        rows, groups = np.arange(total), (first, second)
    right = np.where(rows < n, rows + n, rows - n) if m else rows  # (A,)
    if positive is not None:
        right = np.asarray(positive) + (n if recipe.anchors == "first" and recipe.candidates == "other" else 0)
    candidates = np.ones((len(rows), total), dtype=bool)
    if recipe.candidates == "other":
        candidates = (rows[:, None] < n) != (np.arange(total)[None, :] < n)
    if ignore is not None:
        ignored = np.zeros_like(candidates)
        ignored[:, total - ignore.shape[1] :] = ignore[rows] if len(ignore) == total else ignore
        candidates &= ~ignored
    if not recipe.itself:
        masked = on_rank_0(rows, n, m, recipe.ranks) if recipe.slip == RANK_0_MASKED else rows
        candidates[np.arange(len(rows)), masked] = False
    else:
        candidates[np.arange(len(rows)), rows] = True
    return _with_positive(recipe, right, candidates, rows, groups, n, m)


def with_own(roles: Roles, slip: str | None, rows: int, each: int) -> Roles:
    """Add columns that only one anchor meets, as negatives: ``each`` of them for the first, and so on."""
    owner = np.arange(rows) // each
    if slip == "own_negatives: laid out as (H, N, D)":
        owner = np.arange(rows) % (rows // each)
    met = roles.rows[:, None] == owner  # (A, N H)
    if slip == "own_negatives: shared by all anchors":
        met = np.broadcast_to(np.any(met, axis=1)[:, None], met.shape)
    negatives, candidates = (np.concatenate((x, met), axis=1) for x in (roles.negatives, roles.candidates))
    return roles._replace(negatives=negatives, candidates=candidates)


def _with_positive(
    recipe: Recipe, right: Any, candidates: Any, rows: Any, groups: tuple[Any, ...], n: int, m: int
) -> Roles:
    column = right if recipe.positive is None else recipe.positive(right, n, m)
    is_positive = np.zeros_like(candidates)
    is_positive[np.arange(len(rows)), column] = True
    return Roles(rows, column, is_positive, candidates & ~is_positive, candidates | is_positive, groups)


def roles_of_matrix(recipe: Recipe, s: Any, positive: Any, ignore: Any) -> Roles:
    n, m = s.shape
    right = np.arange(n) if positive is None else np.asarray(positive)
    candidates = np.ones((n, m), dtype=bool) if ignore is None else ~np.asarray(ignore)
    rows = np.arange(n)
    # For similarities the columns stand for themselves: there is no second input whose rows come later.
    return _with_positive(recipe, right, candidates, rows, (rows,), 0, m)


def several(recipe: Recipe, roles: Roles, settings: dict[str, Any]) -> Roles:
    """Return the roles where labels, or a mask, say who is a positive: any number of rows."""
    shape = roles.candidates.shape
    itself, met = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)  # everyone meets everyone
    if "labels" in settings:
        labels, itself = np.asarray(settings["labels"]), np.eye(len(roles.rows), dtype=bool)
        positives = labels[:, None] == labels[None, :]
        if recipe.slip != "oneself is a positive":
            positives = positives & ~itself
    else:
        mask = np.asarray(settings["positives"])
        before = shape[1] - mask.shape[1]  # rows of the anchors' own input, where they are embeddings
        positives = np.pad(mask, ((0, 0), (before, 0)))
        met[:, :before] = False
    ignore = settings.get("ignore")
    left_out = (
        np.zeros(shape, dtype=bool) if ignore is None else np.pad(ignore, ((0, 0), (shape[1] - ignore.shape[1], 0)))
    )
    negatives = met & ~(positives | left_out)
    negatives = negatives | itself & ~positives if recipe.itself else negatives & ~itself
    return roles._replace(positives=positives, negatives=negatives, candidates=positives | negatives)


def on_rank_0(rows: Any, n: int, m: int, ranks: int) -> Any:
    """Return the rows that stand on rank 0 where these stand on their own rank."""
    return np.where(rows >= n, n + (rows - n) % max(m // ranks, 1), rows % max(n // ranks, 1))


def rank_of(n: int, m: int, ranks: int) -> Any:
    """Return which rank each of the stacked rows lives on."""
    return np.concatenate([np.arange(n) // (n // ranks), np.arange(m) // (m // ranks)])
