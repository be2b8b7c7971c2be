#!/usr/bin/env python3
"""blobcached's NBD server beside others that serve the same image, in one run.

    bench/nbd_peers.py [--rounds N] [--seconds N] [--size MIB] [--only TEXT] [--json FILE] [BLOBCACHED]

Every server listens on a unix socket, and the client is the same: fio's nbd engine, nbdcopy, or, where it is built
beside BLOBCACHED, nbd_client_load, which is lighter than fio and shows more of the server. The servers take turns,
round by round, so that whatever else the machine does meets all of them; the result is the median of the rounds.
Beside the throughput stands the processor time that the server used for each request.

Reads are of an image that each server has in RAM. Writes go to a copy of it of each server's own, a volume of ours, and
are compared where both leave the data to the kernel, and where both must have it on the disk (a flush every 64
requests). The last table is what a socket pair allows for messages of the same size, without any server.

Cold reads are reads that the disk must answer, each block once. blobcached's memory tier is emptied before each round;
it reads past the kernel's page cache. So does qemu-nbd (--cache=none: O_DIRECT). nbdkit's file plugin cannot:
cache=none only drops pages after they were read, and the kernel has read ahead by then, so that most of a random run on
a small image would be answered from RAM. Here it is told fadvise=random, which switches reading ahead off, and the
image's pages are dropped from the page cache before each round, which is verified. nbd-server has no such switch, and
is left out of these rows.

nbd-server forks a process for each client; what is counted is the processor time of all that it has started.

BLOBCACHED is build/bin/blobcached by default, or $BLOBCACHE_BIN; blobcachectl is expected beside it. Peers that are
not installed are left out.

The wall clock only means something on a quiet machine: the load is printed, and --realtime runs servers and
clients under SCHED_RR (as root), which keeps other programs out for as long as a round takes.
"""

import argparse
import ctypes
import json
import mmap
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

    def __init__(self, name, version, socket, command):
        self.name, self.version, self.socket, self.command = name, version, socket, command
        self.export = ""
        self.page_cache = None  # a file whose pages are to be dropped before cold reads
        self.process = None
        self.session = None  # a process that leads the session of all that belongs to the server
        self.pid_file = None  # of a server that leaves the process that was started

    def uri(self, export):
        return f"nbd+unix:///{export}?socket={self.socket}"

    def start(self, log):
        """In a session of its own, by which all that it starts is found again."""
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        start_new_session=True)
        self.session = self.process.pid
        if self.pid_file:
            self.process.wait(20)
            deadline = time.monotonic() + 20
            while not (os.path.exists(self.pid_file) and open(self.pid_file).read().strip()):
                if time.monotonic() > deadline:
                    sys.exit(f"nbd_peers: {self.name} did not start")
                time.sleep(0.05)
            self.session = int(open(self.pid_file).read())

    def wait_for(self, path=None):
        path = path or self.socket
        deadline = time.monotonic() + 60
        while not os.path.exists(path):
            if not self.alive():
                sys.exit(f"nbd_peers: {self.name} has ended")
            if time.monotonic() > deadline:
                sys.exit(f"nbd_peers: {self.name} was not ready within 60 seconds")
            time.sleep(0.05)

    def stop(self):
        """The server, and its children if it does not see to them."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.alive():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + 20
            while self.alive() and time.monotonic() < deadline:
                self.process.poll()  # or it would stay as a zombie
                time.sleep(0.02)

    def members(self):
        """The processes of its session, with the fields of their stat(s) from the state on; see proc(5)."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if self.session is not None and int(fields[3]) == self.session:
                found.append((int(pid), fields))
        return found

    def alive(self):
        return [pid for pid, fields in self.members() if fields[0] != "Z"]

    def cpu_seconds(self):
        """Of all its processes, and of those that they have waited for. One that ends just now is in two places or in
        none: so it is read until it has come to rest."""
        before = None
        while True:
            ticks = sum(sum(map(int, fields[11:15])) for _, fields in self.members())
            if ticks == before:
                return ticks / TICK
            before = ticks
            time.sleep(0.05)


def first_line(command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown version"


def make_image(path, size):
    """Random bytes: no server may take a short cut for zeroes."""
    with open(path, "wb") as image:
        for _ in range(size // MIB):
            image.write(os.urandom(MIB))


def start_blobcached(arguments, folder, image, size, log):
    """Serves the image, as the default export, and a volume of the same size."""
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
    command = arguments.prefix + [arguments.blobcached] + [part for s in settings for part in ("--set", s)]
    server = Server("blobcached", first_line([arguments.blobcached, "--version"]), nbd, command)
    server.ctl = [os.path.join(os.path.dirname(arguments.blobcached), "blobcachectl"), "--endpoint", f"unix:{grpc}"]
    server.start(log)
    try:
        server.wait_for(nbd)
        server.wait_for(grpc)
        subprocess.run(server.ctl + ["put", image, "--name", "bench.img"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(server.ctl + ["volume", "create", "bench", "--size", str(size)], check=True,
                       stdout=subprocess.DEVNULL)
        # The peers' files hold the image, too. One that is written at random while it is empty is in pieces on the
        # disk and in the page cache, and written through at half the speed ever after.
        subprocess.run(["nbdcopy", "--flush", image, f"nbd+unix:///volumes/bench?socket={nbd}"], check=True)
    except BaseException:
        server.stop()
        raise
    return server


def peers(arguments, folder, image, size, kind):
    """The other servers of one kind of job, as far as they are installed: "read", "write" or "cold"."""
    found = []

    def add(name, version, command):
        path = os.path.join(folder, f"{kind}-{name.replace(' ', '-')}.sock")
        found.append(Server(name, version, path, arguments.prefix + [c.replace("SOCKET", path) for c in command]))

    def own(name):
        path = os.path.join(folder, f"{name}.img")
        if not os.path.exists(path):
            shutil.copyfile(image, path)
        return path if kind == "write" else image

    if shutil.which("nbdkit"):
        version = first_line(["nbdkit", "--version"])
        nbdkit = ["nbdkit", "-f", "-U", "SOCKET"]
        if kind != "cold":
            add("nbdkit memory", version, nbdkit + ["memory", str(size)])
        no_readahead = ["fadvise=random"] if kind == "cold" else []
        add("nbdkit file", version, nbdkit + ["file", own("nbdkit")] + no_readahead)
        found[-1].page_cache = image if kind == "cold" else None
    if shutil.which("qemu-nbd"):
        mode = {"read": ["-r"], "write": ["--cache=writeback"], "cold": ["-r", "--cache=none", "--aio=native"]}[kind]
        add("qemu-nbd", first_line(["qemu-nbd", "--version"]),
            ["qemu-nbd", "-t", "-e", "16", "-f", "raw", "-k", "SOCKET"] + mode + [own("qemu")])
    if shutil.which("nbd-server") and kind != "cold":
        config = os.path.join(folder, f"{kind}-nbd-server.conf")
        add("nbd-server", first_line(["nbd-server", "-V"]), ["nbd-server", "-C", config, "-p", config + ".pid"])
        found[-1].pid_file = config + ".pid"
        # A port of 0 would mean inetd; with a unix socket it listens on no other. It finds no size by itself there.
        with open(config, "w") as out:
            out.write(f"[generic]\nunixsock = {found[-1].socket}\nport = 10809\n"
                      f"allowlist = true\n[default]\nexportname = {own('nbd-server')}\nfilesize = {size}\n"
                      + ("readonly = true\n" if kind == "read" else "flush = true\nfua = true\n"))
        found[-1].export = "default"
    return found


def drop_page_cache(path):
    """So that reads of the file go to the disk."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        pages = (len(view) + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        resident = (ctypes.c_ubyte * pages)()
        start = ctypes.c_char.from_buffer(view)
        address = ctypes.addressof(start)
        del start  # or the view could not be closed
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(view)), resident) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
        left = sum(state & 1 for state in resident)
    if left > pages // 100:
        print(f"  {left} of {pages} pages stay in the page cache: these reads are not all the disk's")


def export_of(server, job):
    if server.name == "blobcached" and job.kind == "write":
        return "volumes/bench"
    return server.export


def run_fio(server, job, arguments, size, seconds):
    command = arguments.prefix + [
        "fio", "--name=job", "--ioengine=nbd", f"--uri={server.uri(export_of(server, job))}", f"--rw={job.rw}",
        f"--bs={job.block}", f"--iodepth={job.depth}", f"--size={size}", f"--runtime={seconds}", "--time_based",
        f"--numjobs={job.connections}", "--thread", "--group_reporting", "--output-format=json"]
    if job.flush:
        command.append(f"--fsync={job.flush}")
    if job.kind == "cold":
        if hasattr(server, "ctl"):
            subprocess.run(server.ctl + ["evict", "--tier", "ram", "files/bench.img"], check=True,
                           stdout=subprocess.DEVNULL)
        elif server.page_cache:
            drop_page_cache(server.page_cache)
        command += ["--norandommap=0", f"--io_size={size // 8}"]
        command = [c for c in command if c != "--time_based" and not c.startswith("--runtime")]
    cpu = server.cpu_seconds()
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    cpu = server.cpu_seconds() - cpu
    done = json.loads(result.stdout[result.stdout.index("{"):])["jobs"][0]
    if done["error"]:
        sys.exit(f"nbd_peers: fio on {server.name} failed with error {done['error']}")
    side = done["write" if job.kind == "write" else "read"]
    percentiles = side["clat_ns"].get("percentile", {})
    return {"per_second": side["iops"], "mb_per_second": side["bw_bytes"] / 1e6,
            "cpu_us": cpu / side["total_ios"] * 1e6, "p50_us": percentiles.get("50.000000", 0) / 1e3,
            "p99_us": percentiles.get("99.000000", 0) / 1e3}


def run_nbdcopy(server, job, arguments, size, _seconds):
    copies = 4
    cpu, start = server.cpu_seconds(), time.monotonic()
    for _ in range(copies):
        subprocess.run(arguments.prefix + ["nbdcopy", f"--connections={job.connections}",
                                           server.uri(export_of(server, job)), "null:"], check=True)
    elapsed, cpu = time.monotonic() - start, server.cpu_seconds() - cpu
    requests = copies * size / (256 << 10)
    return {"per_second": requests / elapsed, "mb_per_second": copies * size / elapsed / 1e6,
            "cpu_us": cpu / requests * 1e6, "p50_us": 0, "p99_us": 0}


def run_light(server, job, arguments, _size, seconds):
    """nbd_client_load, on a server or, without one, on a socket pair."""
    if server is None:
        where, cpu = ["-", "-"], 0
    else:
        where, cpu = [server.socket, export_of(server, job)], server.cpu_seconds()
    result = subprocess.run(arguments.prefix + [arguments.light, *where, job.rw, str(job.block), str(job.depth),
                                                str(seconds)], capture_output=True, text=True, check=True)
    rate = float(result.stdout)
    if server is not None:
        cpu = server.cpu_seconds() - cpu
    return {"per_second": rate, "mb_per_second": rate * job.block / 1e6, "cpu_us": cpu / (rate * seconds) * 1e6,
            "p50_us": 0, "p99_us": 0}


class Job:
    """One row of the report, for each server."""

    def __init__(self, title, kind, run, rw="", block=0, depth=0, connections=1, flush=0):
        self.title, self.kind, self.run, self.rw, self.block = title, kind, run, rw, block
        self.depth, self.connections, self.flush = depth, connections, flush


JOBS = [
    Job("4 KiB random reads, depth 32", "read", run_fio, "randread", 4 << 10, 32),
    Job("4 KiB random reads, depth 32, light client", "read", run_light, "read", 4 << 10, 32),
    Job("4 KiB random reads, depth 32, four connections", "read", run_fio, "randread", 4 << 10, 32, 4),
    Job("4 KiB random reads, depth 1", "read", run_fio, "randread", 4 << 10, 1),
    Job("256 KiB sequential reads, depth 16", "read", run_fio, "read", 256 << 10, 16),
    Job("nbdcopy to null, one connection", "read", run_nbdcopy),
    Job("nbdcopy to null, four connections", "read", run_nbdcopy, connections=4),
    Job("4 KiB random writes, depth 32, left to the kernel", "write", run_fio, "randwrite", 4 << 10, 32),
    Job("4 KiB random writes, depth 32, light client", "write", run_light, "write", 4 << 10, 32),
    Job("256 KiB sequential writes, depth 16, left to the kernel", "write", run_fio, "write", 256 << 10, 16),
    Job("4 KiB random writes, depth 32, a flush every 64", "write", run_fio, "randwrite", 4 << 10, 32, 1, 64),
    Job("4 KiB random reads, depth 32, from the disk", "cold", run_fio, "randread", 4 << 10, 32),
    Job("4 KiB random reads, depth 1, from the disk", "cold", run_fio, "randread", 4 << 10, 1),
]
# Job and the same on a bare socket pair.
LIMITS = [("4 KiB replies, depth 32", 4 << 10, 32), ("256 KiB replies, depth 16", 256 << 10, 16)]


def medians(rounds):
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def measure(job, servers, arguments, size):
    if job.flush:  # memory has no disk to flush to
        servers = [server for server in servers if server.name != "nbdkit memory"]
    rounds = {server.name: [] for server in servers}
    for server in servers:  # unmeasured: everyone's pages are warm
        job.run(server, job, arguments, size, 1)
    for number in range(arguments.rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            rounds[server.name].append(job.run(server, job, arguments, size, arguments.seconds))
    results = {name: medians(values) for name, values in rounds.items()}
    print(f"\n{job.title}   (load {os.getloadavg()[0]:.1f})")
    ours = results["blobcached"]["per_second"]
    for name, value in results.items():
        latency = f"  p50 {value['p50_us']:6.0f} us, p99 {value['p99_us']:6.0f} us" if value["p50_us"] else ""
        ratio = "" if name == "blobcached" else f"   blobcached is {ours / value['per_second']:.2f} times as fast"
        print(f"  {name:14}{value['per_second']:9.0f} requests/s{value['mb_per_second']:8.0f} MB/s"
              f"{value['cpu_us']:8.2f} us of server CPU a request{latency}{ratio}")
    sys.stdout.flush()
    return {"job": job.title, "results": results}


def measure_limits(arguments):
    print("\nA socket pair alone")
    for title, block, depth in LIMITS:
        job = Job(title, "read", run_light, "read", block, depth)
        value = medians([run_light(None, job, arguments, 0, arguments.seconds) for _ in range(arguments.rounds)])
        print(f"  {title:28}{value['per_second']:9.0f} requests/s{value['mb_per_second']:8.0f} MB/s")


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
    parser.add_argument("--only", default="", help="measure only jobs whose title has this text")
    parser.add_argument("--realtime", action="store_true", help="run servers and clients under SCHED_RR")
    parser.add_argument("--json", help="write the results to this file, too")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds < 1 or arguments.size < 1:
        parser.error("rounds, seconds and size are at least 1")
    arguments.prefix = ["chrt", "-r", "1"] if arguments.realtime else []
    arguments.light = os.path.join(os.path.dirname(arguments.blobcached), "nbd_client_load")
    for tool in ("fio", "nbdcopy", arguments.blobcached):
        if not shutil.which(tool):
            parser.error(f"{tool} is missing")
    return arguments


def run_all(arguments, folder, log):
    size = arguments.size * MIB
    image = os.path.join(folder, "image")
    make_image(image, size)
    has_light = bool(shutil.which(arguments.light))
    jobs = [job for job in JOBS if arguments.only in job.title and (has_light or job.run is not run_light)]
    print(f"{os.cpu_count()} processors, image of {arguments.size} MiB, {first_line(['fio', '--version'])}, "
          f"median of {arguments.rounds} rounds")
    if not has_light:
        print(f"{arguments.light} is not built: its rows are left out (make bench-nbd builds it)")
    report, started = [], []
    try:
        ours = start_blobcached(arguments, folder, image, size, log)
        started.append(ours)
        print(f"  blobcached: {ours.version}")
        for kind in ("read", "write", "cold"):
            servers = [ours]
            for server in peers(arguments, folder, image, size, kind):
                started.append(server)
                server.start(log)
                server.wait_for()
                servers.append(server)
                if server.name == "nbdkit memory":
                    subprocess.run(["nbdcopy", image, server.uri("")], check=True)
                if kind == "read":
                    print(f"  {server.name}: {server.version}")
            report += [measure(job, servers, arguments, size) for job in jobs if job.kind == kind]
            for server in servers[1:]:
                server.stop()
        if has_light and not arguments.only:
            measure_limits(arguments)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # whoever is impatient has to wait for the servers to end
            signal.signal(number, signal.SIG_IGN)
        for server in started:
            server.stop()
    return report


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="nbd_peers.") as folder, \
            open(os.path.join(folder, "servers.log"), "w+") as log:
        try:
            report = run_all(arguments, folder, log)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                log.seek(0)
                sys.stderr.write(log.read()[-4000:])
            raise
    if arguments.json:
        with open(arguments.json, "w") as out:
            json.dump(report, out, indent=2)
            out.write("\n")


if __name__ == "__main__":
    main()
