#!/usr/bin/env python3
"""blobcached's FUSE mount beside others that show the same files, in one run.

    bench/fuse_peers.py [--rounds N] [--size MIB] [--reads N] [--folders N] [--only TEXT] [FOLDER]
    bench/fuse_peers.py --requests [FOLDER]

The peers are libfuse's own passthrough_ll, at its best: cache=always, with and without splice and clone_fd, compiled
here from what libfuse3-dev brings; nbdfuse, for a single file, over nbdkit; and the file systems beneath them, a RAM
disk and a disk, without FUSE. All mounts read ahead 2 MiB. Every row's sides take turns, round by round, in one order
and then in the other, and the result is the median of the rounds. Before each pass over the file the kernel has none of
its pages: not the mount's, and where the peer is over the disk not those beneath either, which is verified. Before each
pass over names the mount is made anew; the file systems beneath keep what they know of names, to the peers' advantage.

Where blobcached is built with a libfuse that has passthrough, the rows that are of the disk or the kernel's cache have it
once more with a file that the kernel reads by itself.

"From memory" is blobcached's memory tier, and the RAM disk for the others. "From the disk" is after the memory tier was
emptied; the store is in FOLDER (default: the temporary folder's), and so are the others' files.

Where a file is read in sequence the reader asks for 1 MiB at a time. Random reads are of 4 KiB, each block once, with
pread, by touching a mapping, and the same after madvise(MADV_RANDOM). The tree has FOLDERS directories of 1000 files, of
which ten are the part that a row may be of.

The wall clock only means something on a quiet machine: the load is printed, and --realtime keeps other programs out for
as long as a pass takes.

--requests counts the requests that the kernel sends blobcached, with its caches in use and without, and prints what
they save. Needs root, and peers that are not installed are left out.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import fuse_requests
from bench_daemon import MIB, median, need, programs
from fuse_mounts import Blobcache, Direct, Native, PassedThrough, first_line, make_content, nbdfuses, passthroughs, run_load

FILES = 1000  # in each folder of the tree
VARIANTS = ((), ("clone_fd",), ("splice",), ("clone_fd", "splice"))


class Result:
    """Of one pass: what was done in a second, and how long steps took, in microseconds, or nothing."""

    def __init__(self, rate, p50=0.0, p99=0.0):
        self.rate, self.p50, self.p99 = rate, p50, p99


def stream(side, arguments):
    seconds, done, _, _ = run_load("stream", side.file, MIB, *(["direct"] if isinstance(side, Direct) else []))
    if done != arguments.size * MIB:
        sys.exit(f"fuse_peers: {side.name} has {done:.0f} bytes of the file")
    return Result(done / seconds / 1e6)


def first_read(side, arguments, _seed):
    side.forget_file()
    return stream(side, arguments)


def second_read(side, arguments, _seed):
    side.forget_file()
    stream(side, arguments)
    return stream(side, arguments)


def random_reads(how):
    def run(side, arguments, seed):
        side.forget_file()
        seconds, done, p50, p99 = run_load(how, side.file, 4096, arguments.reads, seed)
        return Result(done / 4096 / seconds, p50, p99)
    return run


def open_files(again):
    def run(side, arguments, _seed):
        side.forget_names()
        for _ in range(2 if again else 1):
            seconds, done, p50, p99 = run_load("open", side.tree, arguments.part, FILES)
        return Result(done / seconds, p50, p99)
    return run


def list_folders(whole):
    def run(side, arguments, _seed):
        side.forget_names()
        folders = arguments.folders if whole else arguments.part
        started = time.monotonic()
        listing = subprocess.run(["ls", "-lR", *(f"{side.tree}/d{number:03}" for number in range(folders))], check=True,
                                 stdout=subprocess.PIPE).stdout
        seconds = time.monotonic() - started
        if listing.count(b"\n-r") != folders * FILES:
            sys.exit(f"fuse_peers: {side.name} does not list all of the tree")
        return Result(folders * FILES / seconds)
    return run


class Row:
    """One measurement. `where`: "memory" or "disk", what the sides read from, or "part" or "names", how much of the
    tree they show."""

    def __init__(self, title, where, unit, run, goal=None):
        self.title, self.where, self.unit, self.run, self.goal = title, where, unit, run, goal


def best(results, begin):
    return max((result.rate for name, result in results.items() if name.startswith(begin)), default=None)


def goal_of_memory(results, _so_far):
    return "the best passthrough_ll", best(results, "passthrough_ll"), 1.5


def goal_of_disk(results, so_far):
    memory = so_far.get("first read from memory")
    raw = best(results, "disk")
    return ("the lesser of the disk alone and memory", raw and min(raw, memory["blobcache"].rate), 0.9) \
        if memory else ("the disk alone", raw, 0.9)


def goal_of_second(results, _so_far):
    return "the native file systems", max(filter(None, (best(results, "RAM"), best(results, "disk")))), 0.95


def goal_of_names(results, _so_far):
    return "the best passthrough_ll", best(results, "passthrough_ll"), 1.0


ROWS = [
    Row("first read from memory", "memory", "MB/s", first_read, goal_of_memory),
    Row("first read from the disk", "disk", "MB/s", first_read, goal_of_disk),
    Row("second read, the kernel's cache", "memory", "MB/s", second_read, goal_of_second),
    Row("4 KiB random reads from memory", "memory", "reads/s", random_reads("random")),
    Row("4 KiB random reads from memory, mapped", "memory", "reads/s", random_reads("map")),
    Row("4 KiB random reads from memory, mapped, MADV_RANDOM", "memory", "reads/s", random_reads("map-random")),
    Row("4 KiB random reads from the disk", "disk", "reads/s", random_reads("random")),
    Row("4 KiB random reads from the disk, mapped", "disk", "reads/s", random_reads("map")),
    Row("4 KiB random reads from the disk, mapped, MADV_RANDOM", "disk", "reads/s", random_reads("map-random")),
    Row("open, stat, close small files", "part", "files/s", open_files(False), goal_of_names),
    Row("open, stat, close small files again", "part", "files/s", open_files(True), goal_of_names),
    Row("ls -lR of a part of the tree", "part", "entries/s", list_folders(False), goal_of_names),
    Row("ls -lR of the whole tree", "names", "entries/s", list_folders(True), goal_of_names),
]


class Sides:
    """All that is compared, and which of it in which row. Starts what has to run, and stops it."""

    def __init__(self, arguments, folder, ram_folder):
        ram, disk = Native("RAM disk", ram_folder), Native("disk", os.path.join(folder, "native"))
        for place in (ram, disk):
            make_content(place.folder, arguments.size * MIB, arguments.folders, FILES)
        self.ours, self.content = Blobcache(folder, arguments.size * MIB, ["fuse.passthrough=off"]), disk
        passed = [PassedThrough(os.path.join(folder, "passed"), arguments.size * MIB)] if Blobcache.passes_through() else []
        if not passed:
            print("  passthrough is left out: built with a libfuse that has none")
        build = os.path.join(programs(), "..", "fuse_peers")
        os.makedirs(build, exist_ok=True)
        over_ram = passthroughs(folder, build, ram, VARIANTS)
        over_disk = passthroughs(folder, build, disk, VARIANTS)
        nbd = nbdfuses(folder, ram), nbdfuses(folder, disk)
        # Names have nothing to splice.
        plain = [side for side in over_ram + over_disk[:1] if "splice" not in side.name]
        self.memory = [self.ours, *over_ram, *nbd[0], ram]
        self.disk = [self.ours, *passed, *over_disk, *nbd[1], disk, Direct("disk, O_DIRECT", disk.folder)]
        self.part = [self.ours, *plain, ram, disk]
        names = arguments.folders * (FILES + 1)
        self.names = [side for side in self.part if side.most_names >= names]
        if len(self.names) < len(self.part):
            print(f"  passthrough_ll is left out where the tree is shown as a whole: it would need {names} descriptors "
                  f"(ulimit -Hn)")
        self.second = [self.ours, *passed, *self.memory[1:], disk]
        self.filled = [self.ours, *passed]
        self.all = list({id(side): side for side in self.memory + self.disk}.values())

    def __enter__(self):
        try:
            for side in self.all:
                side.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for side in reversed(self.all):
            side.stop()

    def of(self, row):
        """The sides of a row, ours first."""
        self.ours.tier = "disk" if row.where == "disk" else "memory"
        if row.run is second_read:
            return self.second
        sides = getattr(self, row.where)
        return sides if row.run is first_read else [side for side in sides if not isinstance(side, Direct)]


def report(row, results, so_far):
    ours = results["blobcache"].rate
    print(f"\n{row.title}   (load {os.getloadavg()[0]:.1f})")
    for name, result in results.items():
        steps = f"   p50 {result.p50:7.1f} us, p99 {result.p99:7.1f} us" if result.p50 else ""
        ratio = "" if name == "blobcache" else f"   blobcache has {ours / result.rate:.2f} of it"
        print(f"  {name:40}{result.rate:10.0f} {row.unit:9}{steps}{ratio}")
    if row.goal is not None:
        against, rate, wanted = row.goal(results, so_far)
        if rate is None:
            print(f"  goal: {wanted} of {against}, which is not there")
        else:
            said = "reached" if ours >= wanted * rate else "missed"
            print(f"  goal: {wanted} of {against}: {ours / rate:.2f}, {said}")
    passed, native = results.get("blobcache, passthrough"), results.get("disk")
    if passed and native:
        ratio = passed.rate / native.rate
        print(f"  goal: passed through 0.95 of the disk alone: {ratio:.2f}, {'reached' if ratio >= 0.95 else 'missed'}")
    sys.stdout.flush()


def measure(row, sides, arguments):
    rounds = {side.name: [] for side in sides}
    for number in range(arguments.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            rounds[side.name].append(row.run(side, arguments, number + 1))
    return {name: Result(*(median(values) for values in zip(*((r.rate, r.p50, r.p99) for r in passes))))
            for name, passes in rounds.items()}


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures blobcached's FUSE mount beside others.")
    parser.add_argument("folder", nargs="?", help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take medians of (default 5)")
    parser.add_argument("--size", type=int, default=256, help="the file, in MiB (default 256)")
    parser.add_argument("--reads", type=int, default=10000, help="random reads a pass (default 10000)")
    parser.add_argument("--folders", type=int, default=100, help="directories of 1000 files (default 100)")
    parser.add_argument("--ram", default="/dev/shm", help="a RAM disk (default /dev/shm)")
    parser.add_argument("--only", default="", help="measure only rows whose title has this text")
    parser.add_argument("--realtime", action="store_true", help="run all sides and readers under SCHED_RR")
    parser.add_argument("--requests", action="store_true", help="count requests instead")
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.size, arguments.reads) < 1 or not 1 <= arguments.folders <= 1000:
        parser.error("rounds, size and reads are at least 1, folders 1 to 1000")
    arguments.part = min(10, arguments.folders)
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        parser.error("needs root and /dev/fuse")
    return arguments


def main():
    arguments = parse_arguments()
    need("umount")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was mounted has to go
    if arguments.realtime:  # who is started from here on inherits it
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    folder = tempfile.mkdtemp(prefix="fuse_peers.", dir=arguments.folder)
    ram_folder = tempfile.mkdtemp(prefix="fuse_peers.", dir=arguments.ram)
    try:
        if arguments.requests:
            fuse_requests.run(folder)
            return
        rows = [row for row in ROWS if arguments.only in row.title]
        print(f"{os.cpu_count()} processors, Linux {os.uname().release}, file of {arguments.size} MiB, "
              f"{arguments.folders * FILES} small files, {first_line(['ls', '--version'])}, "
              f"medians of {arguments.rounds} rounds")
        with Sides(arguments, folder, ram_folder) as sides:
            for side in sides.filled:
                side.fill(sides.content, arguments.folders, FILES)
            for version in dict.fromkeys(f"{side.name.split(',')[0].split(' ')[0]}: {side.version}"
                                         for side in sides.all if side.is_fuse):
                print(f"  {version}")
            so_far = {}
            for row in rows:
                so_far[row.title] = measure(row, sides.of(row), arguments)
                report(row, so_far[row.title], so_far)
    finally:
        for left in (folder, ram_folder):
            shutil.rmtree(left, ignore_errors=True)


if __name__ == "__main__":
    main()
