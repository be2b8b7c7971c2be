#!/usr/bin/env python3
"""Puts of a large blob, in process and by blobcachectl, beside what they are made of: SHA-256 and a disk.

    bench/store_puts.py [--size MIB] [--rounds N] [FOLDER]

A put hashes, checksums and writes, and is over when it is durable. It stands beside the slower of `openssl
speed` (SHA-256 on one core) and `dd oflag=direct` of the same bytes; all take turns. FOLDER chooses the file
system.
"""

import argparse
import os
import re
import subprocess
import tempfile
import time

from bench_daemon import MIB, Daemon, median, need, programs


def openssl():
    result = subprocess.run(["openssl", "speed", "-elapsed", "-seconds", "1", "-bytes", "1048576", "-evp", "sha256"],
                            check=True, capture_output=True, text=True).stdout
    return float(re.search(r"^sha256 +([0-9.]+)k$", result, re.M).group(1)) * 1000 / 1e6


def dd(source, folder, size):
    start = time.monotonic()
    subprocess.run(["dd", f"if={source}", f"of={folder}/dd", "bs=1M", "oflag=direct", "conv=fsync", "status=none"],
                   check=True)
    seconds = time.monotonic() - start
    os.unlink(f"{folder}/dd")
    return size / seconds / 1e6


def main():
    parser = argparse.ArgumentParser(description="Measures puts of a large blob beside SHA-256 and the disk.")
    parser.add_argument("folder", nargs="?", help="where the store is made")
    parser.add_argument("--size", type=int, default=1024, help="the blob, in MiB (default 1024)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    need("openssl", "dd")
    size = arguments.size * MIB
    columns = {"openssl speed": [], "dd": [], "in process": [], "blobcachectl put": []}
    with tempfile.TemporaryDirectory(prefix="blobcache-bench.", dir=arguments.folder) as folder, \
            Daemon("store.memory=64MiB", "store.disk=16GiB", folder=os.path.join(folder, "daemon")) as daemon:
        source = os.path.join(folder, "source")
        with open(source, "wb") as file:
            for _ in range(arguments.size):
                file.write(os.urandom(MIB))
        os.mkdir(f"{folder}/store")
        with subprocess.Popen([os.path.join(programs(), "put_load"), f"{folder}/store", source],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            for _ in range(arguments.rounds):
                columns["openssl speed"].append(openssl())
                columns["dd"].append(dd(source, folder, size))
                print("put", file=load.stdin, flush=True)
                columns["in process"].append(size / float(load.stdout.readline()) / 1e6)
                start = time.monotonic()
                digest = daemon.ctl("put", source).split()[0]
                columns["blobcachectl put"].append(size / (time.monotonic() - start) / 1e6)
                daemon.ctl("rm", "blobs/" + digest.removeprefix("sha256:"))
            load.stdin.close()
    slower = min(median(columns["openssl speed"]), median(columns["dd"]))
    print(f"a blob of {arguments.size} MiB, medians of {arguments.rounds} rounds")
    for name, rates in columns.items():
        print(f"  {name:18}{median(rates):8.0f} MB/s   {median(rates) / slower:.2f} of the slower of openssl and dd")


main()
