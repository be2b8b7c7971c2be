#!/usr/bin/env python3
"""What blobcached's resident memory comes to, beside its budget: L0 + 96 MiB + 64 bytes a touched extent.

    bench/store_memory.py [--memory MIB] [--dense MIB] [--sparse GIB] [--seconds N] [FOLDER]

Dense: a blob of random bytes far larger than L0 is read from end to end, twice. Sparse: a 64 GiB blob has one page
of data in each extent, and random ones of those pages are read, so that L0 fills with frames of a single page.
Cached: as many extents, a page of each, from a source, in a process with a page store of the same memory
(cached_load), so that the tables of the disk cache are in the sum. The peak is the kernel's VmHWM.
"""

import argparse
import json
import os
import subprocess
import tempfile

from bench_daemon import MIB, Daemon, need, programs

EXTENT = 256 << 10


def peak(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) << 10


def print_line(title, most, used, touched, memory):
    limit = memory + 96 * MIB + 64 * touched
    print(f"  {title:34} peak {most / MIB:6.1f} MiB, L0 holds {used / MIB:6.1f} MiB, {touched} extents touched; "
          f"at most {limit / MIB:.1f} MiB: {most / limit:.2f} of it", flush=True)


def report(title, daemon, memory, touched):
    used = json.loads(daemon.ctl("--json", "status"))["memory"]["used"]
    print_line(title, peak(daemon), used, touched, memory)


def main():
    parser = argparse.ArgumentParser(description="Measures the daemon's resident memory.")
    parser.add_argument("folder", nargs="?", help="where the store is made")
    parser.add_argument("--memory", type=int, default=256, help="store.memory, in MiB (default 256)")
    parser.add_argument("--dense", type=int, default=2048, help="the dense blob, in MiB (default 2048)")
    parser.add_argument("--sparse", type=int, default=64, help="the sparse blob, in GiB (default 64)")
    parser.add_argument("--seconds", type=int, default=30, help="of random reads (default 30)")
    arguments = parser.parse_args()
    need("fio", "nbdcopy")
    memory = arguments.memory * MIB
    with tempfile.TemporaryDirectory(prefix="blobcache-bench.", dir=arguments.folder) as folder:
        os.makedirs(f"{folder}/store")
        extents = arguments.sparse * 4096
        subprocess.run([os.path.join(programs(), "fill_load"), f"{folder}/store", "1", str(extents)], check=True)
        print(f"resident memory with store.memory = {arguments.memory}MiB")
        settings = (f"store.memory={memory}", "store.disk=64GiB")
        with Daemon(*settings, folder=folder) as daemon:
            report("just started", daemon, memory, 0)
            dense = os.path.join(folder, "dense")
            with open(dense, "wb") as file:
                for _ in range(arguments.dense):
                    file.write(os.urandom(MIB))
            daemon.ctl("put", dense, "--name", "dense")
            report("after the put of the dense blob", daemon, memory, 0)
            for _ in range(2):
                subprocess.run(["nbdcopy", f"nbd+unix:///files/dense?socket={daemon.nbd}", "null:"], check=True)
            report("dense, read twice", daemon, memory, arguments.dense * MIB // EXTENT)
        with Daemon(*settings, folder=folder) as daemon:
            # Aligned to extents: their first pages, which have the data.
            result = subprocess.run(
                ["fio", "--name=job", "--ioengine=nbd", f"--uri=nbd+unix:///files/0?socket={daemon.nbd}",
                 "--rw=randread", "--bs=4k", f"--blockalign={EXTENT}", "--iodepth=32",
                 f"--size={arguments.sparse}g", "--norandommap",
                 f"--runtime={arguments.seconds}", "--time_based", "--output-format=json"],
                check=True, capture_output=True, text=True).stdout
            reads = json.loads(result[result.index("{"):])["jobs"][0]["read"]["total_ios"]
            # Random with replacement: what so many throws leave untouched.
            report(f"sparse, {reads} random pages", daemon, memory, round(extents * (1 - (1 - 1 / extents) ** reads)))
        os.makedirs(f"{folder}/cached")
        used, most, filled = (int(word) for word in subprocess.run(
            [os.path.join(programs(), "cached_load"), "memory", f"{folder}/cached", "10", str(extents),
             str(arguments.memory)], check=True, capture_output=True, text=True).stdout.split())
        print_line(f"cached, {filled} extents on disk", most, used, filled, memory)


main()
