"""For pytest: the fixture ``contrastive_oracle``.

In:  a test that asks for it.  Out: `assert_correct`, which fails the test with the name of the mistake.
"""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def contrastive_oracle() -> Callable[..., None]:
    """Assert that a contrastive loss is right: ``contrastive_oracle(my_loss, "nt_xent", temperature=0.2)``."""
    # Imported by the test that asks for it, not by every run of pytest where refcl is installed.
    from refcl.oracle import assert_correct

    return assert_correct
