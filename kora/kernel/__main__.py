"""`python -m kora.kernel`: says which implementation answers here, and why; exits with 1 if it is not the kernel."""

import sys

from kora.kernel import load, why_not

if load() is None:
    print(f"kora: pure Python, which is several times slower than the kernel: {why_not()}")
    sys.exit(1)
print("kora: compiled kernel")
