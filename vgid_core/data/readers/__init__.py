"""Sets of pairs from the formats they lie in: `read_set` is the one door, a format is one small file."""

from vgid_core.data.readers.reading import Reading
from vgid_core.data.readers.source import read, read_set

__all__ = ["Reading", "read", "read_set"]
