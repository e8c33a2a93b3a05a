"""The models and run files of the library's own tests."""

from tests.vgid_core.cli.conftest import done, place  # noqa: F401
from tests.vgid_core.conftest import base, one_thread  # noqa: F401
