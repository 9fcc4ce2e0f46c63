"""forktree.grammar.pda: the lazy pushdown automaton over bytes.

automaton.py is what others see of it; walks.py serves token_mask.py."""
