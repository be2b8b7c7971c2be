#!/usr/bin/env python3
"""Reads through the page store from the disk, every page checked, beside fio on the same file.

    bench/store_disk_reads.py [--size MIB] [--seconds N] [--rounds N] [FOLDER]

The object is far larger than the store's memory, and both sides read its file with O_DIRECT, so that nothing
comes from a cache of this machine; what memory has all the same is passed over. They take turns. A disk reads
faster into one huge page than into 64 small ones, so fio has its buffers of huge pages, too, where the kernel
gives them (madvise, asked for by glibc's malloc), and once more without. How much of each side was in huge pages
is measured. FOLDER chooses the file system (default: the temporary folder's).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from bench_daemon import median, need, programs

JOBS = [("256 KiB sequential, depth 16", "seq", "read", 256 << 10, 16),
        ("4 KiB random, depth 32", "random", "randread", 4096, 32)]


def huge_bytes(pid):
    """What a process has in transparent huge pages now."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return next(int(line.split()[1]) << 10 for line in rollup if line.startswith("AnonHugePages"))
    except (OSError, StopIteration):
        return 0


def fio(path, rw, block, depth, seconds, huge):
    """Reads a second, bytes from disk a byte, percentiles and share of hits as disk_reads_load has them; and the
    most that fio had in huge pages."""
    environment = dict(os.environ)
    if huge:
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    with subprocess.Popen(["fio", "--name=job", "--thread", f"--filename={path}", "--readonly", "--ioengine=io_uring",
                           "--direct=1", f"--rw={rw}", f"--bs={block}", f"--iodepth={depth}", "--time_based",
                           f"--runtime={seconds}", "--mem=malloc", "--mem_align=2m", "--norandommap",
                           "--output-format=json"],
                          stdout=subprocess.PIPE, text=True, env=environment) as process:
        most, over = 0, time.monotonic() + seconds + 1
        while process.poll() is None and time.monotonic() < over:
            most = max(most, huge_bytes(process.pid))
            time.sleep(0.1)
        result = process.communicate()[0]
    if process.returncode != 0:
        sys.exit("fio failed")
    read = json.loads(result[result.index("{"):])["jobs"][0]["read"]
    percentiles = read["clat_ns"]["percentile"]
    return (read["iops"], 1.0, percentiles["50.000000"] / 1000, percentiles["99.000000"] / 1000, 0.0), most


def report(name, rounds, block, huge):
    rate, moved, p50, p99, hits = (median(column) for column in zip(*rounds))
    print(f"  {name:21}{rate:9.0f} reads/s {rate * block / 1e6:7.0f} MB/s   {moved:.3f} bytes from disk a byte   "
          f"p50 {p50:.0f} us, p99 {p99:.0f} us   {100 * hits:.2f} % hits passed over   "
          f"{huge / 1e6:.1f} MB in huge pages", flush=True)
    return rate


def main():
    parser = argparse.ArgumentParser(description="Measures reads from the disk tier beside fio.")
    parser.add_argument("folder", nargs="?", help="where the store is made")
    parser.add_argument("--size", type=int, default=2048, help="the object, in MiB (default 2048)")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    need("fio")
    folder = tempfile.mkdtemp(prefix="blobcache-bench.", dir=arguments.folder)
    try:
        with subprocess.Popen([os.path.join(programs(), "disk_reads_load"), folder, str(arguments.size), "64"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            path, _, pid = load.stdout.readline().strip().rpartition(" ")
            for title, order, rw, block, depth in JOBS:
                store, peers, huge = [], {True: [], False: []}, {}
                for _ in range(arguments.rounds):
                    print(order, block, depth, arguments.seconds, file=load.stdin, flush=True)
                    store.append([float(word) for word in load.stdout.readline().split()])
                    for wish, rounds in peers.items():
                        figures, most = fio(path, rw, block, depth, arguments.seconds, wish)
                        rounds.append(figures)
                        huge[wish] = max(huge.get(wish, 0), most)
                print(f"{title}, medians of {arguments.rounds} rounds")
                rate = report("page store", store, block, huge_bytes(pid))
                for wish, rounds in peers.items():
                    peer = report("fio, huge buffers" if wish else "fio, small buffers", rounds, block, huge[wish])
                    print(f"  the page store has {rate / peer:.2f} of its rate")
            load.stdin.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
