"""The official client in a process of its own, so that it can be killed or stopped as a whole.

As a program it puts the ephemeral records that it is told to, one key a line, and never closes its client.
"""

import subprocess
import sys

import grpc
import oxia
import oxia.ex

import client_race  # noqa: F401


class Holder:
    def __init__(self, server, session_timeout):
        milliseconds = str(int(session_timeout * 1000))
        self.process = subprocess.Popen(
            [sys.executable, __file__, server.address, milliseconds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.process.stdout.readline() == "connected\n"

    def try_to_hold(self, key):
        print(key, file=self.process.stdin, flush=True)
        return self.process.stdout.readline() == f"held {key}\n"

    def hold(self, keys):
        for key in keys:
            assert self.try_to_hold(key), key

    def kill(self):
        """Ends the process with SIGKILL; a second call does nothing."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


def main(address, session_timeout_ms):
    client = oxia.Client(address, session_timeout_ms=int(session_timeout_ms))
    print("connected", flush=True)
    for line in sys.stdin:
        key = line.rstrip("\n")
        try:
            client.put(key, key, ephemeral=True)
        except (grpc.RpcError, oxia.ex.OxiaException) as refused:
            print("refused", repr(refused), flush=True)
        else:
            print("held", key, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
