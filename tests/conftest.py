"""What holds for all tests."""

from hypothesis import settings

# No test is timed: on a busy machine any example may take a second.
settings.register_profile("cygnet", deadline=None)
settings.load_profile("cygnet")
