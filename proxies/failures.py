"""Why a score is missing: whether that lies in the network, or in the machine.

Scores that failed by the machine are reported, but not stored: elsewhere, or later, they may
succeed.
"""

from typing import Final

OUT_OF_MEMORY: Final = "out of memory"
WORKER_DIED: Final = "the worker process died while it scored this architecture"

_MACHINE: Final = "the machine failed: "
_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "OutOfMemoryError")
_LIBRARIES: Final = (
    *("CUDA error", "CUDA driver error", "HIP error", "cuDNN error", "AcceleratorError"),
    *("CUDNN_STATUS_", "CUBLAS_STATUS_", "CUSOLVER_STATUS_"),
)
"""What tells of the libraries of a GPU: most of what torch raises are plain RuntimeErrors."""


def describe(error: Exception) -> str:
    """Say in one sentence what went wrong."""
    text = " ".join(str(error).split())
    sentence = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    if isinstance(error, MemoryError) or any(words in sentence for words in _NO_MEMORY):
        return OUT_OF_MEMORY
    if isinstance(error, OSError | ImportError) or any(words in sentence for words in _LIBRARIES):
        return _MACHINE + sentence
    return sentence


def of_the_machine(reason: str | None) -> bool:
    """Say whether the reason for a missing score lies in the machine."""
    return reason is not None and reason.startswith((OUT_OF_MEMORY, WORKER_DIED, _MACHINE))
