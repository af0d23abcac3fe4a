"""Settings for every test."""

import os

from hypothesis import settings

# `ci` draws the same examples every time and has no deadline, so that a loaded machine fails nothing;
# HYPOTHESIS_PROFILE=explore looks further with fresh random examples.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
