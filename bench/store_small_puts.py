#!/usr/bin/env python3
"""Small blobs over sixteen streams beside the same puts one after another, each acknowledged when durable.

    bench/store_small_puts.py [--count N] [--rounds N]

Both sides take turns on one daemon; every put is new content. The syncs are the daemon's own calls of fsync,
fdatasync and syncfs, as strace counts them: in a run of its own, since strace makes each of them dearer, and one
stream has more of them.
"""

import argparse
import os
import re
import subprocess

from bench_daemon import Daemon, median, need, programs

SIZE, STREAMS = 4096, 16
SETTINGS = ("store.memory=256MiB", "store.disk=8GiB")


def syncs(trace):
    with open(trace) as lines:
        return sum(1 for line in lines if re.search(r"\b(fsync|fdatasync|syncfs)\(", line))


def put(daemon, streams, count, seed):
    """Seconds that so many puts of new content take."""
    return float(subprocess.run([os.path.join(programs(), "small_puts_load"), daemon.endpoint, str(streams),
                                 str(count), str(SIZE), str(seed)],
                                check=True, capture_output=True, text=True).stdout)


def count_syncs(counts, seed):
    """Syncs a put, by the number of streams."""
    result = {}
    with Daemon(*SETTINGS) as daemon:
        trace = os.path.join(daemon.folder, "trace")
        daemon.stop()
        daemon.prefix = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-e",
                         "trace=fsync,fdatasync,syncfs", "-o", trace]
        daemon.start()
        for streams, count in counts.items():
            before = syncs(trace)
            put(daemon, streams, count, seed + streams)
            result[streams] = (syncs(trace) - before) / count
    return result


def main():
    parser = argparse.ArgumentParser(description="Measures puts of 4 KiB blobs over 16 streams and one.")
    parser.add_argument("--count", type=int, default=10000, help="puts over 16 streams, a round (default 10000)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    need("strace")
    # One after another takes long and its rate does not change with the number.
    counts = {STREAMS: arguments.count, 1: max(1, arguments.count // 10)}
    rates = {STREAMS: [], 1: []}
    seed = 0
    with Daemon(*SETTINGS) as daemon:
        for _ in range(arguments.rounds):
            for streams, count in counts.items():
                seed += 1
                rates[streams].append(count / put(daemon, streams, count, seed))
    counted = count_syncs(counts, seed + 1)
    print(f"puts of {SIZE} bytes, {arguments.count} a round, medians of {arguments.rounds} rounds")
    for streams, values in rates.items():
        print(f"  {streams:3} streams {median(values):9.0f} puts/s {counted[streams]:6.3f} syncs a put")
    print(f"  {STREAMS} streams are {median(rates[STREAMS]) / median(rates[1]):.2f} times as fast as one")


main()
