#!/usr/bin/env python3
"""How long blobcached takes from exec to ready, and to its first read, with a large store.

    bench/store_start.py [--extents N] [--rounds N] [FOLDER]

The store holds N extents (default: one million) in 10 objects, then in 10,000; an empty one stands beside it.
Making them takes a few minutes, as 256 GiB of holes are hashed.
"""

import argparse
import os
import subprocess
import tempfile
import time

from bench_daemon import Daemon, median, programs


def measure(folder, rounds):
    ready, first = [], []
    daemon = Daemon("store.memory=256MiB", "store.disk=64GiB", folder=folder)
    for _ in range(rounds):
        ready.append(daemon.start())
        if os.path.exists(f"{folder}/filled"):
            start = time.monotonic()
            daemon.ctl("get", "files/7", "--offset", "262144", "--length", "4096", "-o", f"{folder}/page")
            first.append(time.monotonic() - start)
        daemon.stop()
    text = f"ready after {median(ready) * 1000:6.0f} ms"
    return text + (f", a read by blobcachectl then takes {median(first) * 1000:.0f} ms" if first else "")


def main():
    parser = argparse.ArgumentParser(description="Measures the start with a large store.")
    parser.add_argument("folder", nargs="?", help="where the stores are made")
    parser.add_argument("--extents", type=int, default=1000000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="blobcache-bench.", dir=arguments.folder) as top:
        print(f"start, medians of {arguments.rounds}")
        for objects in (0, 10, 10000):
            folder = os.path.join(top, str(objects))
            os.makedirs(f"{folder}/store")
            if objects:
                subprocess.run([os.path.join(programs(), "fill_load"), f"{folder}/store", str(objects),
                                str(arguments.extents // objects)], check=True)
                open(f"{folder}/filled", "w").close()
            title = f"{arguments.extents} extents in {objects} objects" if objects else "an empty store"
            print(f"  {title:36}{measure(folder, arguments.rounds)}", flush=True)


main()
