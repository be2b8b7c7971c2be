#!/usr/bin/env python3
"""blobcached's NBD server beside others that serve the same image, in one run.

    bench/nbd_peers.py [--rounds N] [--seconds N] [--size MIB] [--json FILE] [BLOBCACHED]

Every server has the whole image in RAM and listens on a unix socket; the client is the same (fio's nbd
engine, then nbdcopy to null). The servers take turns, round by round, so that whatever else the machine does
meets all of them; the result is the median of the rounds. Beside the throughput stands the processor time
that the server used for each request. BLOBCACHED is build/bin/blobcached by default, or $BLOBCACHE_BIN;
blobcachectl is expected beside it. Peers that are not installed are left out.

The wall clock only means something on a quiet machine: the load is printed, and --realtime runs servers and
clients under SCHED_RR (as root), which keeps other programs out for as long as a round takes.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


class Server:
    """One server process and where it listens."""

    def __init__(self, name, version, uri, command):
        self.name, self.version, self.uri, self.command = name, version, uri, command
        self.process = None

    def start(self, log):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_for(self, path):
        deadline = time.monotonic() + 60
        while not os.path.exists(path):
            if self.process.poll() is not None:
                sys.exit(f"nbd_peers: {self.name} ended with {self.process.returncode}")
            if time.monotonic() > deadline:
                sys.exit(f"nbd_peers: {self.name} was not ready within 60 seconds")
            time.sleep(0.05)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK


def first_line(command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown version"


def make_image(path, size):
    """Random bytes: no server may take a short cut for zeroes."""
    with open(path, "wb") as image:
        for _ in range(size // MIB):
            image.write(os.urandom(MIB))


def start_blobcached(blobcached, folder, image, size, prefix, log):
    ctl = os.path.join(os.path.dirname(blobcached), "blobcachectl")
    store, nbd, grpc = (os.path.join(folder, name) for name in ("store", "bc.sock", "grpc.sock"))
    os.mkdir(store)
    settings = [
        f"store.path={store}",
        f"store.memory={2 * size + 64 * MIB}",
        f"store.disk={4 * size + 64 * MIB}",
        "store.disk_reserve=0",
        f"nbd.listen=unix:{nbd}",
        "nbd.default_export=files/bench.img",
        f"grpc.listen=unix:{grpc}",
        "metrics.listen=127.0.0.1:0",
    ]
    command = prefix + [blobcached] + [part for s in settings for part in ("--set", s)]
    server = Server("blobcached", first_line([blobcached, "--version"]), f"nbd+unix:///?socket={nbd}", command)
    server.start(log)
    try:
        server.wait_for(nbd)
        server.wait_for(grpc)
        subprocess.run([ctl, "--endpoint", f"unix:{grpc}", "put", image, "--name", "bench.img"],
                       check=True, stdout=subprocess.DEVNULL)
    except BaseException:
        server.stop()
        raise
    return server


def peers(folder, image, size, prefix):
    """The other servers, as far as they are installed."""
    found = []
    if shutil.which("nbdkit"):
        version = first_line(["nbdkit", "--version"])
        for name, plugin in (("nbdkit memory", ["memory", str(size)]), ("nbdkit file", ["file", image])):
            path = os.path.join(folder, name.replace(" ", "-") + ".sock")
            found.append((Server(name, version, f"nbd+unix:///?socket={path}",
                                 prefix + ["nbdkit", "-f", "-U", path] + plugin), path))
    if shutil.which("qemu-nbd"):
        path = os.path.join(folder, "qemu-nbd.sock")
        found.append((Server("qemu-nbd", first_line(["qemu-nbd", "--version"]), f"nbd+unix:///?socket={path}",
                             prefix + ["qemu-nbd", "-r", "-t", "-e", "16", "-f", "raw", "-k", path, image]), path))
    return found


def run_fio(server, job, seconds, size, prefix):
    _, rw, block, depth = job
    cpu = server.cpu_seconds()
    result = subprocess.run(
        prefix + ["fio", "--name=job", "--ioengine=nbd", f"--uri={server.uri}", f"--rw={rw}", f"--bs={block}",
                  f"--iodepth={depth}", f"--size={size}", f"--runtime={seconds}", "--time_based",
                  "--output-format=json"], capture_output=True, text=True, check=True)
    cpu = server.cpu_seconds() - cpu
    done = json.loads(result.stdout[result.stdout.index("{"):])["jobs"][0]
    if done["error"]:
        sys.exit(f"nbd_peers: fio on {server.name} failed with error {done['error']}")
    read = done["read"]
    return {"per_second": read["iops"], "mb_per_second": read["bw_bytes"] / 1e6,
            "cpu_us": cpu / read["total_ios"] * 1e6}


def run_nbdcopy(server, _job, _seconds, size, prefix):
    cpu, start = server.cpu_seconds(), time.monotonic()
    for _ in range(4):
        subprocess.run(prefix + ["nbdcopy", server.uri, "null:"], check=True)
    elapsed, cpu = time.monotonic() - start, server.cpu_seconds() - cpu
    requests = 4 * size / (256 << 10)
    return {"per_second": requests / elapsed, "mb_per_second": 4 * size / elapsed / 1e6,
            "cpu_us": cpu / requests * 1e6}


JOBS = [
    (run_fio, ("4 KiB random reads, depth 32", "randread", "4k", 32)),
    (run_fio, ("256 KiB sequential reads, depth 16", "read", "256k", 16)),
    (run_nbdcopy, ("nbdcopy to null, four connections", "", "", 0)),
]


def medians(rounds):
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def measure(servers, arguments, prefix, size):
    report = []
    for run, job in JOBS:
        rounds = {server.name: [] for server in servers}
        for server in servers:  # unmeasured: everyone's pages are warm
            run(server, job, 1, size, prefix)
        for _ in range(arguments.rounds):
            for server in servers:
                rounds[server.name].append(run(server, job, arguments.seconds, size, prefix))
        results = {name: medians(values) for name, values in rounds.items()}
        report.append({"job": job[0], "results": results})
        print(f"\n{job[0]}   (load {os.getloadavg()[0]:.1f})")
        ours = results["blobcached"]["per_second"]
        for name, value in results.items():
            ratio = "" if name == "blobcached" else f"   blobcached is {ours / value['per_second']:.2f} times as fast"
            print(f"  {name:14}{value['per_second']:9.0f} requests/s{value['mb_per_second']:8.0f} MB/s"
                  f"{value['cpu_us']:8.2f} us of server CPU a request{ratio}")
    return report


def parse_arguments():
    here = os.path.dirname(os.path.abspath(__file__))
    default = os.environ.get("BLOBCACHE_BIN", os.path.join(here, "..", "build", "bin", "blobcached"))
    if os.path.isdir(default):
        default = os.path.join(default, "blobcached")
    parser = argparse.ArgumentParser(description="Measures blobcached's NBD server beside others.")
    parser.add_argument("blobcached", nargs="?", default=default)
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take medians of (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds a measurement (default 3)")
    parser.add_argument("--size", type=int, default=256, help="the image, in MiB (default 256)")
    parser.add_argument("--realtime", action="store_true", help="run servers and clients under SCHED_RR")
    parser.add_argument("--json", help="write the results to this file, too")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds < 1 or arguments.size < 1:
        parser.error("rounds, seconds and size are at least 1")
    for tool in ("fio", "nbdcopy", arguments.blobcached):
        if not shutil.which(tool):
            parser.error(f"{tool} is missing")
    return arguments


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prefix = ["chrt", "-r", "1"] if arguments.realtime else []
    size = arguments.size * MIB
    servers = []
    with tempfile.TemporaryDirectory(prefix="nbd_peers.") as folder, \
            open(os.path.join(folder, "servers.log"), "w+") as log:
        try:
            image = os.path.join(folder, "image")
            make_image(image, size)
            servers.append(start_blobcached(arguments.blobcached, folder, image, size, prefix, log))
            for server, path in peers(folder, image, size, prefix):
                servers.append(server)
                server.start(log)
                server.wait_for(path)
                if server.name == "nbdkit memory":
                    subprocess.run(["nbdcopy", image, server.uri], check=True)
            print(f"{os.cpu_count()} processors, image of {arguments.size} MiB, "
                  f"{first_line(['fio', '--version'])}, median of {arguments.rounds} rounds")
            for server in servers:
                print(f"  {server.name}: {server.version}")
            report = measure(servers, arguments, prefix, size)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                log.seek(0)
                sys.stderr.write(log.read()[-4000:])
            raise
        finally:
            for server in servers:
                server.stop()
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump(report, out, indent=2)
            out.write("\n")


if __name__ == "__main__":
    main()
