"""What tests of a GPU share: their marks, and the device."""

from __future__ import annotations

import pytest
import torch

DEVICE = "cuda:0"
#: Marks of a test, or of a whole file by `pytestmark = NEEDS_GPU`. `make gpu` runs all of them.
NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device (make gpu runs it there)"),
]
