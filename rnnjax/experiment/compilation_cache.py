"""Compiled programs on disk: what one run has compiled, the next one loads."""

import contextlib
import hashlib
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

LIMIT = 2**30  # bytes; a larger folder is cut to half of this, oldest use first


@contextlib.contextmanager
def compilation_cache(folder: Path | None = None) -> Iterator[None]:
    """Use JAX's persistent compilation cache within the context.

    A program that is loaded is the one that was compiled, so no number changes. Every program is
    kept, small ones too: a script compiles dozens. Processes may share the folder. An entry that
    cannot be read is compiled again, and a folder that cannot be written to is not used; neither
    is an error. If the user has chosen a folder (`JAX_COMPILATION_CACHE_DIR`), or switched the
    cache off (`JAX_ENABLE_COMPILATION_CACHE=false`), nothing changes.

    Args:
        folder: None means `cache_folder()`.
    """
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    folder = cache_folder() if folder is None else folder
    if chosen is not None or not _writable(folder):
        yield
        return
    _prune(folder)
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with warnings.catch_warnings():
        # A full disk, or an entry that another process is still writing.
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
        _update(settings)
        try:
            yield
        finally:
            from jax.experimental.compilation_cache import compilation_cache as of_jax

            _update(before)
            of_jax.reset_cache()


def cache_folder() -> Path:
    """Return the folder of this machine: `~/.cache/rnnjax/xla/MACHINE`.

    MACHINE stands for the processor and its instructions, because programs compiled for one
    processor may fail on another, and home folders are shared. JAX's own keys hold its version,
    the flags of XLA, the devices and the program. `XDG_CACHE_HOME` stands for `~/.cache`.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return root / "rnnjax" / "xla" / _machine()


def _machine() -> str:
    facts = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):  # not on Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        kinds = "model name", "flags", "Features", "CPU part"
        facts += [line for line in lines if line.startswith(kinds)]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    return f"{platform.machine() or 'unknown'}-{digest[:12]}"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return False


def _prune(folder: Path) -> None:
    """Remove the entries that have not been read for longest, if the folder is too large."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process removed it
            facts = path.stat()
            entries.append((max(facts.st_atime, facts.st_mtime), facts.st_size, path))
    total = sum(size for _, size, _ in entries)
    if total <= LIMIT:
        return
    for _, size, path in sorted(entries):
        if total <= LIMIT // 2:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def _update(settings: dict) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
