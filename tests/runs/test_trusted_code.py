"""Code that a directory names: run only from the current project, or where the user says."""

from pathlib import Path

import pytest

from rnnjax.runs import trusted_code
from rnnjax.runs.trusted_code import first_untrusted, project


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A project with a folder of sweeps, another project, and a link to it within the first."""
    for name in ("mine/.git", "mine/deep/er", "mine/sweeps/a", "other/.git"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("mine/good.py", "mine/deep/good.py", "mine/sweeps/a/came.py", "other/bad.py"):
        (tmp_path / name).touch()
    (tmp_path / "mine" / "link.py").symlink_to(tmp_path / "other" / "bad.py")
    (tmp_path / "mine" / "folder").symlink_to(tmp_path / "other")
    (tmp_path / "to_mine").symlink_to(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine" / "deep")
    return tmp_path


def refused(places, name, *trust):
    found = first_untrusted(
        [places / "mine" / "good.py", places / name],
        named_in=places / "mine" / "sweeps" / "a",
        trust=[places / path for path in trust],
    )
    assert found is None or (found.is_absolute() and not found.is_symlink())
    return found


def test_the_project_is_the_nearest_folder_with_a_mark(places, tmp_path):
    assert project(Path.cwd()) == project(places / "mine" / "deep" / "er") == places / "mine"
    (places / "mine" / "deep" / "pyproject.toml").touch()
    assert project(places / "mine" / "deep" / "er") == places / "mine" / "deep"
    assert project(places / "to_mine" / "sweeps") == places / "mine"


def test_without_a_mark_it_is_the_folder_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(trusted_code, "MARKS", ("no such mark",))
    assert project(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "name", ["mine/good.py", "mine/deep/good.py", "to_mine/good.py", "other/../mine/good.py"]
)
def test_code_of_the_project_may_run(name, places):
    assert refused(places, name) is None


@pytest.mark.parametrize(
    "name", ["other/bad.py", "mine/link.py", "mine/folder/bad.py", "mine/../other/bad.py"]
)
def test_other_code_may_not_unless_it_is_trusted(name, places):
    bad = places / "other" / "bad.py"
    assert refused(places, name) == bad
    assert refused(places, name, "mine") == bad
    for trusted in ("other", "other/bad.py", "mine/link.py"):
        assert refused(places, name, trusted) is None


def test_code_that_came_with_the_directory_may_not(places):
    came = places / "mine" / "sweeps" / "a" / "came.py"
    assert refused(places, "mine/sweeps/a/came.py") == came
    assert refused(places, "mine/sweeps/a/came.py", "mine/sweeps/a/came.py") is None


def test_the_root_is_no_project(places, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setattr(trusted_code, "MARKS", ("no such mark",))
    assert refused(places, "mine/good.py") == places / "mine" / "good.py"


def test_the_repository_of_rnnjax_is_trusted_from_anywhere(places):
    experiment = Path(trusted_code.__file__).parents[2] / "experiments" / "gates.py"
    assert first_untrusted([experiment], named_in=places) is None
