"""The tensors that hold keys and values, and their layout.

Here: one block of memory for all layers.  Not here: which page belongs to whom (page_pool.py, the radix tree).
Layout [L, P, 2, S, Hkv, D]: within a layer a page is one contiguous run, keys before values, so that a page can be
copied or moved as one piece and attention reads a token's head as one line."""

from __future__ import annotations

import torch


class KvStore:
    """Keys and values of `num_pages` pages of `page_size` tokens, for every layer.

    The memory is reserved, not touched: the system gives a page of memory when a slot is first written, and what an
    unwritten slot holds is unspecified (it may be NaN)."""

    def __init__(
        self,
        num_layers: int,
        num_pages: int,
        page_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value in (
            ("num_layers", num_layers),
            ("num_pages", num_pages),
            ("page_size", page_size),
            ("num_kv_heads", num_kv_heads),
            ("head_dim", head_dim),
        ):
            if value < 1:
                raise ValueError(f"{name}: wanted at least 1, got {value}")
        self.num_layers, self.num_pages, self.page_size = num_layers, num_pages, page_size
        self.num_kv_heads, self.head_dim = num_kv_heads, head_dim
        shape = (num_layers, num_pages, 2, page_size, num_kv_heads, head_dim)
        self._pages = torch.empty(shape, dtype=dtype, device=device)
        self._layers = tuple(self._pages[index] for index in range(num_layers))

    @staticmethod
    def bytes_per_token(num_layers: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype = torch.float32) -> int:
        """What one token's keys and values take, over all layers: how many pages fit a memory budget."""
        return num_layers * 2 * num_kv_heads * head_dim * dtype.itemsize

    def layer(self, index: int) -> torch.Tensor:
        """[P, 2, S, Hkv, D], contiguous; [:, 0] keys, [:, 1] values."""
        return self._layers[index]

    @property
    def dtype(self) -> torch.dtype:
        return self._pages.dtype

    @property
    def device(self) -> torch.device:
        return self._pages.device

    @property
    def num_bytes(self) -> int:
        return self._pages.numel() * self._pages.element_size()
