"""Names for the arrays that compiled kernels take. Numba ignores annotations; readers and mypy do not."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float32]"
IntArray: TypeAlias = "npt.NDArray[np.signedinteger[Any]]"
