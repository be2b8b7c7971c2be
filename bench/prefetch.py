#!/usr/bin/env python3
"""What reading ahead is worth: cold sequential, interleaved, strided and random reads, with it and without.

    bench/prefetch.py [--rounds N] [--size MIB] [--round-trips MS,MS,...] [--rate MB] [--only TEXT] [FOLDER]

The origin is a server of this machine behind a link of a given round trip and rate (test/system/link_proxy.c, compiled
here): nginx by HTTP, or nbdkit where nginx or the origin's type is missing. Beside each row stands what a client of the
same server gets through the same link by itself: eight ranges in parallel by curl, or nbdcopy with 16 requests under
way on each of four connections. Every round has a store of its own and each door a file of its own, so that nothing is
cached; all sides take turns, round by round, and the result is the median of the rounds.

"disk" rows need no link: the same file from the disk tier, through each door, beside the same door from memory and the
disk by itself, with O_DIRECT and without.

The wall clock only means something on a quiet machine: the load is printed, and --realtime keeps other programs out.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from bench_daemon import MIB, Daemon, median, need, programs
from fuse_mounts import forget_pages, run_load

HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def wait_for_port(port):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    sys.exit(f"prefetch: nobody listens on port {port}")


def has_http():
    """Whether there is an nginx, and a blobcached that knows the origin's type."""
    if not shutil.which("nginx"):
        return False
    check = subprocess.run([os.path.join(programs(), "blobcached"), "--check", "--config", "/dev/stdin"], check=False,
                           input='[[origin]]\nname = "o"\ntype = "http"\nurl = "http://127.0.0.1/"\n', text=True,
                           capture_output=True)
    return check.returncode == 0


class Server:
    """A real server of a folder's files, on a port of its own."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


class Nginx(Server):
    kind = "nginx"

    def start(self):
        conf = os.path.join(self.folder, "..", "nginx.conf")
        with open(conf, "w") as file:
            file.write(f"""daemon off; worker_processes 1; pid {conf}.pid; error_log stderr; user root;
events {{}} http {{ access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path {conf}.body;
proxy_temp_path {conf}.proxy; fastcgi_temp_path {conf}.fastcgi; uwsgi_temp_path {conf}.uwsgi;
scgi_temp_path {conf}.scgi; server {{ listen 127.0.0.1:{self.port}; root {self.folder}; autoindex on; }} }}
""")
        self.process = subprocess.Popen(["nginx", "-c", conf], stdin=subprocess.DEVNULL)
        wait_for_port(self.port)

    @staticmethod
    def origin(port):
        return f'type = "http"\nurl = "http://127.0.0.1:{port}/"\n'

    @staticmethod
    def by_itself(port, name, size):
        """Eight ranges at once, as one command."""
        part = size // 8
        command = ["curl", "-s", "-Z", "--parallel-max", "8"]
        for i in range(8):
            end = size - 1 if i == 7 else (i + 1) * part - 1
            command += (["--next"] if i else []) + ["-s", "-r", f"{i * part}-{end}", "-o", "/dev/null",
                                                    f"http://127.0.0.1:{port}/{name}"]
        started = time.monotonic()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return size / (time.monotonic() - started) / 1e6


class Nbdkit(Server):
    kind = "nbdkit"

    def start(self):
        self.process = subprocess.Popen(["nbdkit", "-f", "-r", "-p", str(self.port), "-i", "127.0.0.1", "file",
                                         f"dir={self.folder}"], stdin=subprocess.DEVNULL)
        wait_for_port(self.port)

    @staticmethod
    def origin(port):
        return f'type = "nbd"\nurl = "nbd://127.0.0.1:{port}"\nimmutable = true\n'

    @staticmethod
    def by_itself(port, name, size):
        started = time.monotonic()
        subprocess.run(["nbdcopy", "--connections=4", "--requests=16", f"nbd://127.0.0.1:{port}/{name}", "null:"],
                       check=True)
        return size / (time.monotonic() - started) / 1e6


class Link:
    """The server seen from afar."""

    def __init__(self, build, server, round_trip, rate):
        self.port, self.count = free_port(), os.path.join(build, f"count.{round_trip}")
        self.process = subprocess.Popen([os.path.join(build, "link_proxy"), str(self.port), str(server.port),
                                         str(round_trip), str(rate), self.count])
        wait_for_port(self.port)

    def stop(self):
        """The bytes that came through it."""
        self.process.terminate()
        self.process.wait()
        with open(self.count) as file:
            return int(file.read().split()[0])


class Cache:
    """A blobcached behind the link, with a mount."""

    def __init__(self, folder, name, server, link, settings):
        self.name, self.folder = name, os.path.join(folder, name.replace(" ", "-"))
        os.makedirs(os.path.join(self.folder, "mnt"))
        config = os.path.join(self.folder, "config.toml")
        with open(config, "w") as file:
            file.write(f'[[origin]]\nname = "far"\n{server.origin(link.port)}')
        self.daemon = Daemon("store.memory=1GiB", "store.disk=20GiB", *settings, folder=self.folder,
                             arguments=["--config", config])
        self.daemon.start()
        self.daemon.ctl("mount", os.path.join(self.folder, "mnt"))

    def file(self, name):
        return os.path.join(self.folder, "mnt", "origins", "far", name)

    def stop(self):
        self.daemon.ctl("umount", os.path.join(self.folder, "mnt"))
        self.daemon.stop()


def by_fuse(cache, name, size):
    seconds, done, *_ = run_load("stream", cache.file(name), MIB)
    assert done == size
    return size / seconds / 1e6


def by_nbd(block):
    def run(cache, name, size):
        socket_path = cache.daemon.nbd
        started = time.monotonic()
        subprocess.run(["nbdcopy", "--connections=1", "--requests=1", f"--request-size={block}",
                        f"nbd+unix:///origins/far/{name}?socket={socket_path}", "null:"], check=True)
        return size / (time.monotonic() - started) / 1e6
    return run


def link_rows(arguments, folder, server, build):
    doors = [("FUSE, read(2) of 1 MiB", by_fuse), ("NBD, 128 KiB at a time", by_nbd(131072))]
    for round_trip in arguments.round_trips:
        title = f"sequential, {round_trip} ms, {arguments.rate} MB/s, {server.kind}"
        if arguments.only not in title:
            continue
        results = {}
        for number in range(arguments.rounds):
            link = Link(build, server, round_trip, arguments.rate)
            caches = [Cache(folder, f"{kind} {round_trip} {number}", server, link, settings) for kind, settings in
                      (("with", []), ("without", ["prefetch.enabled=false"]))]
            try:
                size, part = arguments.size * MIB, min(arguments.size, arguments.off_size) * MIB
                results.setdefault("the link by itself", []).append(server.by_itself(link.port, "whole0", size))
                for which, (door, run) in enumerate(doors):
                    results.setdefault(f"{door}, prefetch", []).append(run(caches[0], f"whole{which}", size))
                    if not arguments.no_off:
                        results.setdefault(f"{door}, none", []).append(run(caches[1], f"part{which}", part))
            finally:
                for cache in caches:
                    cache.stop()
                    shutil.rmtree(cache.folder, ignore_errors=True)
                link.stop()
        report(title, results, "the link by itself")


def report(title, results, reference):
    print(f"\n{title}   (load {os.getloadavg()[0]:.1f})")
    against = median(results[reference])
    for name, rates in results.items():
        print(f"  {name:34}{median(rates):9.0f} MB/s  {median(rates) / against:6.2f}   "
              f"({min(rates):.0f} to {max(rates):.0f})", flush=True)


def disk_row(arguments, folder):
    """From the disk tier, through each door."""
    title = "sequential, disk tier"
    if arguments.only not in title:
        return
    where = os.path.join(folder, "disk")
    os.makedirs(os.path.join(where, "mnt"))
    size = arguments.disk_size * MIB
    native = os.path.join(folder, "native")
    with open(native, "wb") as file:
        for _ in range(arguments.disk_size):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    results = {}
    daemons = {}
    for kind, settings in (("prefetch", []), ("none", ["prefetch.enabled=false"])):
        at = os.path.join(where, kind)
        os.makedirs(os.path.join(at, "mnt"))
        daemons[kind] = daemon = Daemon(f"store.memory={2 * size + 64 * MIB}", "store.disk=20GiB",
                                        "fuse.passthrough=off", *settings, folder=at)
        daemon.start()
        daemon.ctl("mount", os.path.join(at, "mnt"))
        daemon.ctl("put", native, "--name", "f")
    try:
        for _ in range(arguments.rounds):
            for kind, daemon in daemons.items():
                mounted = os.path.join(daemon.folder, "mnt", "files", "f")
                for tier in ("disk", "memory"):
                    def cold():
                        forget_pages(mounted)
                        if tier == "disk":
                            daemon.ctl("evict", "--tier", "ram", "files/f")
                    if tier == "memory" and kind == "none":
                        continue
                    cold()
                    seconds, *_ = run_load("stream", mounted, MIB)
                    results.setdefault(f"FUSE, {tier}, {kind}", []).append(size / seconds / 1e6)
                    for block, requests in ((131072, 1), (262144, 4)):
                        cold()
                        started = time.monotonic()
                        subprocess.run(["nbdcopy", "--connections=1", f"--requests={requests}",
                                        f"--request-size={block}", f"nbd+unix:///files/f?socket={daemon.nbd}", "null:"],
                                       check=True)
                        results.setdefault(f"NBD {block // 1024}K x {requests}, {tier}, {kind}", []).append(
                            size / (time.monotonic() - started) / 1e6)
            forget_pages(native)
            seconds, *_ = run_load("stream", native, MIB)
            results.setdefault("the disk, buffered", []).append(size / seconds / 1e6)
            forget_pages(native)
            seconds, *_ = run_load("stream", native, MIB, "direct")
            results.setdefault("the disk, O_DIRECT", []).append(size / seconds / 1e6)
    finally:
        for daemon in daemons.values():
            daemon.ctl("umount", os.path.join(daemon.folder, "mnt"))
            daemon.stop()
    report(title, results, "the disk, buffered")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of each file behind the link")
    parser.add_argument("--off-size", type=int, default=64, help="MiB of it that is read without reading ahead")
    parser.add_argument("--disk-size", type=int, default=512, help="MiB in the disk tier")
    parser.add_argument("--round-trips", default="1,10,50", help="milliseconds")
    parser.add_argument("--rate", type=float, default=200, help="MB/s of the link")
    parser.add_argument("--no-off", action="store_true", help="leave out the rows without reading ahead")
    parser.add_argument("--nbd", action="store_true", help="an NBD server, also where there is an nginx")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--only", default="", help="measure only rows whose title has this text")
    parser.add_argument("folder", nargs="?", help="where the files are")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    need("nbdcopy", "gcc")
    arguments.round_trips = [float(word) for word in arguments.round_trips.split(",")]
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    folder = tempfile.mkdtemp(prefix="prefetch.", dir=arguments.folder)
    try:
        disk_row(arguments, folder)
        if arguments.only in "sequential, disk tier" and arguments.only:
            return
        subprocess.run(["gcc", "-O2", "-o", os.path.join(folder, "link_proxy"),
                        os.path.join(HERE, "..", "test", "system", "link_proxy.c")], check=True)
        content = os.path.join(folder, "content")
        os.mkdir(content)
        for name, mebibytes in (("whole", arguments.size), ("part", min(arguments.size, arguments.off_size))):
            with open(os.path.join(content, f"{name}0"), "wb") as file:
                for _ in range(mebibytes):
                    file.write(os.urandom(MIB))
            # Another name is another file to who is far away.
            os.link(os.path.join(content, f"{name}0"), os.path.join(content, f"{name}1"))
        server = (Nginx if has_http() and not arguments.nbd else Nbdkit)(content)
        server.start()
        try:
            link_rows(arguments, folder, server, folder)
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
