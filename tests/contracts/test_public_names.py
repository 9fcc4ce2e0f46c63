"""The names that forktree and each package promise."""

from __future__ import annotations

import importlib

import pytest

import forktree
from tests.contracts.sources import PACKAGES

# The names that a program written for SGLang's frontend uses, and what forktree adds to them.
OF_A_PROGRAM = {
    "function", "gen", "gen_int", "gen_string", "select",
    "system", "user", "assistant",
    "system_begin", "system_end", "user_begin", "user_end", "assistant_begin", "assistant_end",
    "set_default_backend", "flush_cache", "get_server_info", "Runtime", "RuntimeEndpoint", "Engine",
    "token_length_normalized", "greedy_token_selection", "unconditional_likelihood_normalized",
    "exact_probability",
    "__version__",
}  # fmt: skip


def test_forktree_has_every_name_of_a_program() -> None:
    assert set(forktree.__all__) >= OF_A_PROGRAM, sorted(OF_A_PROGRAM - set(forktree.__all__))


@pytest.mark.parametrize("package", ["forktree", *(f"forktree.{name}" for name in PACKAGES)])
def test_every_promised_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    names = list(module.__all__)
    assert names == sorted(set(names), key=names.index), "a name is promised twice"
    missing = [name for name in names if not hasattr(module, name)]
    assert not missing
    assert set(names) <= set(dir(module)), "dir() must name what is resolved on first use"


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = forktree.no_such_name  # type: ignore[attr-defined, unused-ignore]
