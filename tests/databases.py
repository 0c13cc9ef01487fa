"""A PostgreSQL server of a test's own, from the Debian package, where that is installed."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path


def find(name):
    """Return the newest program of PostgreSQL's of a name, or None."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda path: float(path.name))
    found = [path for version in versions if (path := version / "bin" / name).exists()]
    return str(found[-1]) if found else shutil.which(name)


@contextlib.contextmanager
def postgresql():
    """Start a server in a new folder that listens to a socket there alone; give its URL.

    Where there is none the URL is empty: a sweep's own SQLite.
    """
    initdb, server = find("initdb"), find("postgres")
    if not (initdb and server) or (os.getuid() == 0 and not shutil.which("runuser")):
        yield ""
        return
    as_user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []  # it refuses root
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: a socket's is limited
    try:
        if as_user:
            shutil.chown(folder, "nobody")
        data = str(folder / "data")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": folder}
        made = [*as_user, initdb, "-D", data, "-U", "tester", "-A", "trust", "--no-sync"]
        subprocess.run(made, check=True, **quiet)
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        options = [word for name, v in settings.items() for word in ("-c", f"{name}={v}")]
        with subprocess.Popen([*as_user, server, "-D", data, *options], **quiet) as running:
            try:
                _wait_for(folder, running)
                yield f"postgresql://tester@/postgres?host={folder}"
            finally:
                (pid, *_) = (folder / "data" / "postmaster.pid").read_text().split()
                os.kill(int(pid), signal.SIGINT)  # which does not wait for clients
                running.communicate()
    finally:
        shutil.rmtree(folder)


def _wait_for(folder, running):
    import psycopg

    for line in running.stderr:
        if b"ready to accept connections" in line:
            break
    psycopg.connect(host=str(folder), user="tester", dbname="postgres").close()
