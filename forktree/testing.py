"""forktree.lang.testing under a shorter name: scripts, recordings and replays for tests of programs."""

from forktree.lang.testing import *  # noqa: F403
from forktree.lang.testing import __all__ as __all__
