"""The version of what gguf_convert.py writes: part of the cache key, so raise it whenever the output changes.

A file of its own because a quick start has to know it and must not import the converter."""

CONVERTER_VERSION = 1
