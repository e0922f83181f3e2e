"""How the kernel is compiled: setuptools' build_ext, by its row in pyproject.toml.

An installation that cannot compile goes on without the kernel, unless KORA_REQUIRE_KERNEL=1 forbids that.  This file
imports nothing of Kora: it runs before there is one, in pip's own environment.
"""

import os
import shlex
from pathlib import Path
from typing import Final

from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, SetupError
from setuptools.modified import newer_group

FLAGS: Final = (
    "-O3",
    # C11 with what the system adds to it: clock_gettime() and malloc_usable_size() are no part of C.
    "-std=gnu11",
    # A block holds a header and then integers, pointers or bytes, as its kind says: nothing follows from their types.
    "-fno-strict-aliasing",
    # Python finds the module by one name; all others are the kernel's own, and so are called directly.
    "-fvisibility=hidden",
)
# For the C that we write.  In what Cython writes nobody would look; Python's own flags ask for -Wsign-compare there.
WARNINGS: Final = ("-Wall", "-Wextra")
FLAGS_GENERATED: Final = ("-Wno-sign-compare",)


class BuildExt(build_ext):
    """Compiles only what is older than its source, and leaves no kernel behind that is older than the sources."""

    def run(self) -> None:
        if self.inplace:
            for extension in self.extensions:
                Path(self.get_ext_filename(extension.name)).unlink(missing_ok=True)
        super().run()

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        target.unlink(missing_ok=True)
        ext.optional = not _is_required()
        try:
            objects = [self._compiled(source, ext) for source in self._c_sources(ext)]
            self.compiler.link_shared_object(objects, str(target), extra_postargs=_users_flags())
        except CCompilerError as error:
            if ext.optional:
                raise
            raise SetupError(
                "KORA_REQUIRE_KERNEL=1 forbids to go on without the kernel, and it cannot be compiled; it needs a C "
                f"compiler and Python's headers (Debian: gcc, libc6-dev, python3-dev): {error}"
            ) from error

    def _c_sources(self, ext: Extension) -> list[str]:
        """The sources, Cython's translated; what it writes stays in the folder for temporary files."""
        try:
            from Cython.Build import cythonize
            from Cython.Compiler.Errors import CompileError as CythonError
        except ImportError as error:
            raise CompileError(f"Cython is not installed: {error}") from error
        try:
            return list(cythonize(ext, build_dir=self.build_temp, force=self.force, quiet=True)[0].sources)
        except CythonError as error:
            raise CompileError(f"Cython: {error}") from error

    def _compiled(self, source: str, ext: Extension) -> str:
        """The object file of a C source; compiled unless it is newer than that, the headers and this file."""
        (target,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        if self.force or newer_group([source, *ext.depends], target):
            ours = [*WARNINGS, *(["-Werror"] if _is_required() else [])]
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=[*FLAGS, *(ours if source in ext.sources else FLAGS_GENERATED), *_users_flags()],
            )
        return str(target)


def _is_required() -> bool:
    return os.environ.get("KORA_REQUIRE_KERNEL") == "1"


def _users_flags() -> list[str]:
    """CFLAGS come last, so that they outweigh ours: `make sanitize` is a build like any other."""
    return shlex.split(os.environ.get("CFLAGS", ""))
