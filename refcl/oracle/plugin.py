"""For pytest: the fixture ``contrastive_oracle``.

In:  a test that asks for it.  Out: `assert_correct`, which fails the test with the name of the mistake.
"""

from collections.abc import Callable

import pytest

from refcl.oracle.check import assert_correct


@pytest.fixture(scope="session")
def contrastive_oracle() -> Callable[..., None]:
    """Assert that a contrastive loss is right: ``contrastive_oracle(my_loss, "nt_xent", temperature=0.2)``."""
    return assert_correct
