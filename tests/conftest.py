"""Two CPU devices, as on the smallest machine that has more than one; float64 on request.

Compiling is most of what a test costs, so the compiler leaves out what takes it long, here and in
the processes that tests start. `JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` tests with all of it.
"""

import functools
import http.server
import os
import sys
import threading

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # before JAX reads it

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture
def x64():
    """Run the test with 64-bit types."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def refuses(monkeypatch, capsys, tmp_path):
    """Return a check that an experiment refuses arguments: exit code 2, one line that has words."""

    def check(module, arguments, words, **options):
        monkeypatch.chdir(tmp_path)  # where runs/ would be made
        monkeypatch.setattr(sys, "argv", [module.__file__, *arguments.split()])
        with pytest.raises(SystemExit) as stop:
            module.main(module.Config, module.run, **options)
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
