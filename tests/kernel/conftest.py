"""What tests of the kernel begin with: that there is one."""

import os
from types import ModuleType

import pytest

from kora import kernel


@pytest.fixture(scope="session")
def compiled() -> ModuleType:
    """The kernel's module.  A visible skip without it; a failure where KORA_REQUIRE_KERNEL asks for it."""
    module = kernel.load()
    if module is None:
        reason = f"the kernel is not loaded: {kernel.why_not()}"
        is_off = os.environ.get("KORA_KERNEL", "").lower() == kernel.OFF
        if os.environ.get("KORA_REQUIRE_KERNEL") == "1" and not is_off:
            pytest.fail(f"{reason}; make compile")
        pytest.skip(reason)
    return module
