"""Context-free grammars as users write them, in lark's syntax or llama.cpp's GBNF, compiled to nodes of `Rules`.

The language is meant without a lexer: a terminal may match any text that it can, wherever the grammar lets it stand.
Both may be left-recursive and ambiguous.  lark and interegular are loaded when they are first needed."""

from .collisions import terminal_collisions
from .gbnf import compile_gbnf
from .lark_syntax import compile_lark

__all__ = ["compile_gbnf", "compile_lark", "terminal_collisions"]
