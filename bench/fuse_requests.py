"""How many requests the kernel's caches save blobcached: the second part of fuse_peers.

Four workloads run on a fresh mount, with the defaults and with caching off. Off is entry_timeout=0 and
negative_timeout=0. No option turns off that the kernel keeps a file's pages when it is opened again, since a file's
bytes never change; there, off is that its pages are dropped before it is read again. What is counted is the daemon's own
count, of which opening and giving back, and forgetting names, are a part.
"""

import os

from bench_daemon import MIB
from fuse_mounts import Blobcache, Native, forget_pages, make_content

FOLDERS, FILES, ROUNDS = 10, 100, 10
SIZE = 16 * MIB
OFF = ("fuse.entry_timeout=0s", "fuse.negative_timeout=0s")


def names(side):
    return [f"{side.tree}/d{folder:03}/f{file:03}" for folder in range(FOLDERS) for file in range(FILES)]


def look_up(side, _caching):
    for _ in range(ROUNDS):
        for name in names(side):
            os.stat(name)


def look_up_absent(side, _caching):
    for _ in range(ROUNDS):
        for name in names(side):
            if os.path.exists(name + ".absent"):
                raise RuntimeError(f"{name}.absent exists")


def read_again(side, caching):
    for _ in range(ROUNDS):
        if not caching:
            forget_pages(side.file)
        with open(side.file, "rb", buffering=0) as file:
            while file.read(MIB):
                pass


def walk(side, _caching):
    for _ in range(ROUNDS):
        found = sum(1 for folder, _, files in os.walk(side.tree) for name in files
                    if os.lstat(os.path.join(folder, name)).st_size)
        if found != FOLDERS * FILES:
            raise RuntimeError(f"{found} files found, and not {FOLDERS * FILES}")


WORKLOADS = (("repeated look-ups", look_up), ("look-ups of absent names", look_up_absent), ("re-reads", read_again),
             ("walks through directories", walk))


def count(folder, native, settings, caching):
    """Requests by workload."""
    side = Blobcache(folder, SIZE, settings)
    side.start()
    try:
        if not side.daemon.status()["names"]:
            side.fill(native, FOLDERS, FILES)
        found = {}
        for title, workload in WORKLOADS:
            side.forget_names()
            before = side.requests()
            workload(side, caching)
            found[title] = side.requests() - before
        return found
    finally:
        side.stop()


def run(folder):
    native = Native("disk", os.path.join(folder, "native"))
    make_content(native.folder, SIZE, FOLDERS, FILES)
    on = count(folder, native, (), True)
    off = count(folder, native, OFF, False)
    print(f"requests of the kernel, {FOLDERS * FILES} files, {ROUNDS} times over, and a file of {SIZE // MIB} MiB read as "
          f"often")
    for title, _ in WORKLOADS:
        print(f"  {title:28}{on[title]:8} with caching {off[title]:8} without   "
              f"{100 * (1 - on[title] / off[title]):6.1f} % saved")
    print("  (re-reads without caching: the file's pages were dropped before each; no option does that)")
