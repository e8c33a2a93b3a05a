"""Readers of dataset formats. `read_set` reads any of them; each format is a module."""

from vgid_core.data.readers.reading import ReadResult
from vgid_core.data.readers.source import read, read_set

__all__ = ["ReadResult", "read", "read_set"]
