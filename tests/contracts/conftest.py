"""Hypothesis for these tests: no deadline, since the machine is shared; in CI the examples are the same each time."""

from hypothesis import settings

settings.register_profile("mesh", settings(), deadline=None)
settings.load_profile("mesh")
