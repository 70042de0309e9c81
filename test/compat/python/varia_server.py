"""One `varia standalone` process in its own temporary directory."""
import os
import queue
import shutil
import subprocess
import tempfile
import threading

START_SECONDS = 30


class VariaServer:
    def __init__(self, shards):
        self._shards = shards
        self._dir = tempfile.mkdtemp(prefix="varia-python-")
        self._process = None
        try:
            self.address = self._launch("127.0.0.1:0")
        except BaseException:
            self.close()
            raise

    def kill(self):
        """Ends the process with SIGKILL and waits until it is gone."""
        self._process.kill()
        self._process.wait(START_SECONDS)

    def restart(self):
        """Starts the process again on the same port and directories."""
        self._launch(self.address)

    def _launch(self, listen):
        executable = os.environ.get("VARIA_EXECUTABLE")
        if not executable:
            raise RuntimeError("set VARIA_EXECUTABLE to the path of the server executable")
        stderr_path = os.path.join(self._dir, "stderr.txt")
        with open(stderr_path, "ab") as stderr:
            process = subprocess.Popen(
                [executable, "standalone", "-s", str(self._shards),
                 "-p", listen, "-m", "127.0.0.1:0",
                 "--data-dir", os.path.join(self._dir, "db"),
                 "--wal-dir", os.path.join(self._dir, "wal")],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True)
        self._process = process
        found = queue.Queue()

        def read():
            # Reads to the end, so that the process never blocks on a full pipe.
            with process.stdout as out:
                for line in out:
                    if line.startswith("public "):
                        found.put(line[len("public "):].strip())
            found.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            address = found.get(timeout=START_SECONDS)
        except queue.Empty:
            address = None
        if address is None:
            with open(stderr_path, encoding="utf-8") as stderr:
                raise RuntimeError(f"the server did not start: {stderr.read()}")
        return address

    def close(self):
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
