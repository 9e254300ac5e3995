"""Settings for all tests."""

import os

from hypothesis import settings

# The first example of a shape compiles a kernel, so a deadline would measure the compiler.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
