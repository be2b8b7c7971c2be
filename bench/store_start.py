#!/usr/bin/env python3
"""How long a large store takes from exec to ready, and to its first read and put.

    bench/store_start.py [--extents N] [--rounds N] [FOLDER]

Kept: blobcached with a store that holds N extents (default: one million) in 10 objects, then in 10,000; an empty one
stands beside it. Making them takes a few minutes, as 256 GiB of holes are hashed. Cached: a page store in process
(cached_load), with one page each of as many extents from a source, in as many objects: its puts wait until what is
there has been counted. After a stop, and after a kill. The files are in the kernel's caches.
"""

import argparse
import os
import shutil
import subprocess
import sys
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


CACHED = ("open", "the first read", "the first put", "all counted")


def measure_cached(folder, objects, extents, rounds):
    """Fills a store, ends or kills that, and opens it again. Two lines."""
    load, shape = os.path.join(programs(), "cached_load"), (folder, str(objects), str(extents))
    for kill in (False, True):
        with subprocess.Popen([load, "fill", *shape], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as filling:
            if filling.stdout.readline() != "filled\n":
                sys.exit("cached_load did not fill its store")
            if kill:
                filling.kill()
            filling.stdin.close()
        times = []
        for _ in range(1 if kill else rounds):
            words = subprocess.run([load, "start", *shape], check=True, capture_output=True,
                                   text=True).stdout.split()
            times.append([float(word) for word in words[:-1]])
        text = ", ".join(f"{name} after {median(column) * 1000:.0f} ms" for name, column in zip(CACHED, zip(*times)))
        print(f"    {'killed' if kill else 'stopped':8}{text}; {words[-1]} extents", flush=True)


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
            shutil.rmtree(folder)
        for objects in (10, 10000):
            folder = os.path.join(top, f"cached{objects}")
            os.makedirs(folder)
            print(f"  {arguments.extents} cached extents in {objects} objects")
            measure_cached(folder, objects, arguments.extents, arguments.rounds)
            shutil.rmtree(folder)


main()
