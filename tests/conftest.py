"""Settings of the whole test run."""

import torch
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("assay", deadline=None)
settings.load_profile("assay")

# Tests run in several processes: threads of each would fight for the cores.
torch.set_num_threads(1)
