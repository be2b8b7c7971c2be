#!/usr/bin/env python3
"""Small blobs over sixteen streams beside the same puts one after another, each acknowledged when durable.

    bench/store_small_puts.py [--count N] [--rounds N]

Both sides take turns on one daemon; every put is new content. The syncs are the daemon's own calls of fsync,
fdatasync and syncfs, as strace counts them.
"""

import argparse
import os
import re
import subprocess

from bench_daemon import Daemon, median, need, programs

SIZE, STREAMS = 4096, 16


def syncs(trace):
    with open(trace) as lines:
        return sum(1 for line in lines if re.search(r"\b(fsync|fdatasync|syncfs)\(", line))


def main():
    parser = argparse.ArgumentParser(description="Measures puts of 4 KiB blobs over 16 streams and one.")
    parser.add_argument("--count", type=int, default=10000, help="puts over 16 streams, a round (default 10000)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    need("strace")
    rounds = {STREAMS: [], 1: []}
    seed = 0
    with Daemon("store.memory=256MiB", "store.disk=8GiB") as daemon:
        trace = os.path.join(daemon.folder, "trace")
        daemon.stop()
        daemon.prefix = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-e",
                         "trace=fsync,fdatasync,syncfs", "-o", trace]
        daemon.start()
        for _ in range(arguments.rounds):
            for streams in (STREAMS, 1):
                # One after another takes long and its rate does not change with the number.
                count = arguments.count if streams > 1 else max(1, arguments.count // 10)
                seed += 1
                before = syncs(trace)
                seconds = float(subprocess.run(
                    [os.path.join(programs(), "small_puts_load"), daemon.endpoint, str(streams), str(count),
                     str(SIZE), str(seed)], check=True, capture_output=True, text=True).stdout)
                rounds[streams].append((count / seconds, (syncs(trace) - before) / count))
    print(f"puts of {SIZE} bytes, {arguments.count} a round, medians of {arguments.rounds} rounds")
    rates = {}
    for streams, values in rounds.items():
        rates[streams] = median([rate for rate, _ in values])
        print(f"  {streams:3} streams {rates[streams]:9.0f} puts/s {median([s for _, s in values]):6.3f} syncs a put")
    print(f"  {STREAMS} streams are {rates[STREAMS] / rates[1]:.2f} times as fast as one")


main()
