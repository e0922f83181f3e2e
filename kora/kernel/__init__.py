"""The compiled hot path, where there is one: kernel.h says what it is, kora/store and kora/engine are the reference.

Which of the two answers is chosen once, when the process starts: the kernel, unless KORA_KERNEL is `off` or it could
not be built or loaded.
"""

import importlib
import os
from types import ModuleType

OFF = "off"


def load() -> ModuleType | None:
    """The compiled module, or None where Python is to answer; why_not() says why."""
    try:
        return None if _is_off() else importlib.import_module("kora.kernel._kernel")
    except ImportError:
        return None


def why_not() -> str:
    """Why load() gives nothing, in a few words; "" if it gives the kernel."""
    if _is_off():
        return f"KORA_KERNEL is {OFF}"
    try:
        importlib.import_module("kora.kernel._kernel")
    except ModuleNotFoundError:
        return "it was not built: installing Kora found no C compiler, or no headers of Python"
    except ImportError as error:
        return f"it cannot be loaded: {error}"
    return ""


def _is_off() -> bool:
    return os.environ.get("KORA_KERNEL", "").lower() == OFF
