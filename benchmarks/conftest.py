"""Makes the tests' time series importable."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "decompose"))
