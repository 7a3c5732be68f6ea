"""The ranks' tests import their cases as the other tests do theirs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
