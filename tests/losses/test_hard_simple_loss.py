"""The simple loss of the hardest negatives, of similarities and of embeddings."""

from typing import Any

from cards import Card, on_embeddings, on_similarities, roles, scalar, variants
from digits import cosines as exact_cosines
from digits import everyone, exact, hardest_of, simple_value
from goldens import OF_EMBEDDINGS, TEMPERATURES, golden, query_and_key, similarities
from loops import of_embeddings
from test_simple_loss import simple_contrastive

import refcl


def golden_of_similarities() -> Any:
    for kind in TEMPERATURES:
        s = similarities(kind)
        who = hardest_of(exact(s.tolist()), everyone(3, 4), 2)
        yield golden(
            "hard_simple_contrastive", [s], lambda s, who=who: simple_value(s, None, who), exact_s=True, hardest=2
        )


def golden_of_embeddings() -> Any:
    for kind in OF_EMBEDDINGS:
        query, key = query_and_key(kind)
        who = hardest_of(exact_cosines(exact(query.tolist()), exact(key.tolist())), everyone(2, 3), 1)
        yield golden(
            "hard_simple_loss",
            [query, key],
            lambda q, k, who=who: simple_value(exact_cosines(q, k), None, who),
            exact_s=False,
            hardest=1,
        )


CARDS = [
    Card(
        refcl.hard_simple_contrastive,
        [
            *variants(on_similarities, scalar(0.7), hardest=0.4),
            ("default-weight", on_similarities(None, hardest=2, roles=roles)),
        ],
        simple_contrastive,
        golden_of_similarities,
    ),
    Card(
        refcl.hard_simple_loss,
        variants(on_embeddings, scalar(0.7), hardest=2),
        of_embeddings(simple_contrastive),
        golden_of_embeddings,
    ),
]
