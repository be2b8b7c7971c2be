#!/usr/bin/env python3
"""Reads through the page store from the disk, every page checked, beside fio on the same file.

    bench/store_disk_reads.py [--size MIB] [--seconds N] [--rounds N] [FOLDER]

The object is far larger than the store's memory, and both sides read its file with O_DIRECT, so that nothing
comes from a cache of this machine. They take turns. FOLDER chooses the file system (default: the temporary
folder's).
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile

from bench_daemon import median, need, programs

JOBS = [("256 KiB sequential, depth 16", "seq", "read", 256 << 10, 16),
        ("4 KiB random, depth 32", "random", "randread", 4096, 32)]


def fio(path, rw, block, depth, seconds):
    result = subprocess.run(["fio", "--name=job", f"--filename={path}", "--readonly", "--ioengine=io_uring",
                             "--direct=1", f"--rw={rw}", f"--bs={block}", f"--iodepth={depth}", "--time_based",
                             f"--runtime={seconds}", "--output-format=json"],
                            check=True, capture_output=True, text=True)
    read = json.loads(result.stdout[result.stdout.index("{"):])["jobs"][0]["read"]
    percentiles = read["clat_ns"]["percentile"]
    return read["iops"], 1.0, percentiles["50.000000"] / 1000, percentiles["99.000000"] / 1000


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
            path = load.stdout.readline().strip()
            for title, order, rw, block, depth in JOBS:
                store, peer = [], []
                for _ in range(arguments.rounds):
                    print(order, block, depth, arguments.seconds, file=load.stdin, flush=True)
                    store.append([float(word) for word in load.stdout.readline().split()])
                    peer.append(fio(path, rw, block, depth, arguments.seconds))
                print(f"{title}, medians of {arguments.rounds} rounds")
                for name, rounds in (("page store", store), ("fio", peer)):
                    rate, moved, p50, p99 = (median(column) for column in zip(*rounds))
                    print(f"  {name:11}{rate:9.0f} reads/s {rate * block / 1e6:7.0f} MB/s   "
                          f"{moved:.3f} bytes from disk a byte   p50 {p50:.0f} us, p99 {p99:.0f} us")
                ratio = median([r[0] for r in store]) / median([r[0] for r in peer])
                print(f"  the page store has {ratio:.2f} of fio's rate")
            load.stdin.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
