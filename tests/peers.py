"""What the reference implementations need to be imported beside a CPU-only torch."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


def torchaudio() -> Any:
    """torchaudio, whose compiled part links CUDA and cannot be loaded: features need none of it."""
    extension: Any = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension.fail_if_no_align = lambda function: function
    sys.modules.setdefault("torchaudio._extension", extension)
    return importlib.import_module("torchaudio")
