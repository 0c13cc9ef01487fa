"""Two CPU devices, as on the smallest machine that has more than one; float64 on request.

Compilation is most of what a test costs, so the compiler skips its expensive passes, here and in
the processes that tests start. `JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` runs all of them.

A compiled program stays in memory until JAX's caches are cleared. A test process clears them after
any test that leaves it with much more memory than before, prints the peak of every process at the
end, and fails if one passed two gigabytes.

Hypothesis draws the same examples on every run and sets no time limit: a test does not depend on
how busy the machine is.
"""

import functools
import http.server
import os
import sys
import tempfile
import threading

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # before JAX reads it

import hypothesis
import jax
import jaxtyping
import pytest
from process_memory import LIMIT, NEW_FILE, bound_memory, peak_memory

jax.config.update("jax_num_cpu_devices", 2)

hypothesis.settings.register_profile(
    "rnnjax",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("rnnjax")


class Memory:
    """A plugin: clears JAX's caches when a process grows, and reports the peak of each."""

    def __init__(self):
        self.peaks, self.file = [], None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid):
        file, self.file = self.file, nodeid.split("::")[0]
        if file != self.file:
            bound_memory(NEW_FILE)  # its first fixture may compile many programs

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self):
        bound_memory()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        self.peaks.append(getattr(node, "workeroutput", {}).get("peak_memory", 0.0))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["peak_memory"] = peak_memory()
        elif max(self.peaks or [peak_memory()]) > LIMIT:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        peaks = self.peaks or [peak_memory()]
        text = ", ".join(f"{peak:.2f}" for peak in peaks)
        terminalreporter.write_line(
            f"peak memory of each test process: {text} GB (at most {LIMIT:.0f})",
            red=max(peaks) > LIMIT,
        )


class Cache:
    """A plugin: what scripts cache is kept for this run of the tests, not in the user's folder."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(
            prefix="rnnjax-tests-", ignore_cleanup_errors=True
        )
        os.environ["XDG_CACHE_HOME"] = self.folder.name  # processes of xdist inherit it

    def pytest_unconfigure(self):
        self.folder.cleanup()


def pytest_configure(config):
    config.pluginmanager.register(Memory(), "memory")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Cache(), "cache")


@pytest.fixture
def x64():
    """Run the test with 64-bit types."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def without_type_checks():
    """Annotations are not checked, as outside these tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def refuses(monkeypatch, capsys, tmp_path):
    """Return a check that an experiment refuses arguments: exit code 2, one line that has words."""

    def check(module, arguments, words):
        monkeypatch.chdir(tmp_path)  # where runs/ would be made
        monkeypatch.setattr(sys, "argv", [module.__file__, *arguments.split()])
        with pytest.raises(SystemExit) as stop:
            module.run.main()
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        for word in words:
            assert word in error
        assert not list(tmp_path.glob("runs/*"))

    return check


@pytest.fixture
def served(tmp_path):
    """Return a folder that a server shows on the loopback, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):  # pyright: ignore
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
