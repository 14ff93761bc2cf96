"""Settings of the whole test run."""

from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("assay", deadline=None)
settings.load_profile("assay")
