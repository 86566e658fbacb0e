"""What all tests of the trainer share."""

from hypothesis import settings

# On a busy machine the first example of a test can take any time; pytest's timeout is the one that counts.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
