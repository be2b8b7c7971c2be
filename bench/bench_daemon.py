"""What the benches share: a daemon of their own in a folder of its own, and medians."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20


def programs():
    """Where blobcached, blobcachectl and the load generators are."""
    here = os.path.dirname(os.path.abspath(__file__))
    return os.environ.get("BIN", os.path.join(here, "..", "build-bench", "bin"))


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            sys.exit(f"{os.path.basename(sys.argv[0])}: {tool} is missing")


class Daemon:
    """A blobcached in a folder of its own; use it with `with`. `prefix` is a command that runs it."""

    def __init__(self, *settings, prefix=(), folder=None, arguments=()):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="blobcache-bench.")
        self.settings, self.prefix, self.arguments = settings, list(prefix), list(arguments)
        self.socket = os.path.join(self.folder, "grpc.sock")
        self.nbd = os.path.join(self.folder, "nbd.sock")
        self.endpoint = f"unix:{self.socket}"
        self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        os.makedirs(os.path.join(self.folder, "store"), exist_ok=True)
        settings = [f"store.path={self.folder}/store", "store.disk_reserve=0", f"grpc.listen={self.endpoint}",
                    f"nbd.listen=unix:{self.nbd}", "metrics.listen=127.0.0.1:0", *self.settings]
        command = self.prefix + [os.path.join(programs(), "blobcached"), *self.arguments]
        self.log = open(os.path.join(self.folder, "log"), "w+")
        started = time.monotonic()
        self.process = subprocess.Popen(command + [part for s in settings for part in ("--set", s)],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        while True:
            with open(self.log.name) as log:
                text = log.read()
            if any(line.endswith(" ready") for line in text.splitlines()):
                return time.monotonic() - started
            if self.process.poll() is not None or time.monotonic() > started + 120:
                sys.exit(f"blobcached did not get ready:\n{text}")
            time.sleep(0.002)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            # The prefix command may not pass the signal on: the daemon itself is its only child.
            children = subprocess.run(["pgrep", "-P", str(self.process.pid), "-x", "blobcached"],
                                      capture_output=True, text=True, check=False).stdout.split()
            os.kill(int(children[0]) if children else self.process.pid, signal.SIGTERM)
            self.process.wait(60)
        self.process = None

    def __exit__(self, *_):
        self.stop()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def ctl(self, *arguments, **options):
        options.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([os.path.join(programs(), "blobcachectl"), "--endpoint", self.endpoint, *arguments],
                              check=True, text=True, **options).stdout

    def status(self):
        return json.loads(self.ctl("--json", "status"))


def median(values):
    return statistics.median(values)
