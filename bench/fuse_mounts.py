"""The file systems that fuse_peers compares: how each is brought up, made cold and taken down.

All hold the same two things: a file of random bytes, `bench.img`, and `tree/dNNN/fNNN`, many small files. What a
measurement asks of one:

    file              where its bench.img is seen
    tree              where its tree is seen, or None
    forget_file()     the kernel has none of the file's pages: neither the mount's nor those beneath it, unless
                      beneath is a RAM disk
    most_names        that it can show at a time
    forget_names()    the kernel knows no name of the mount's. What lies beneath, and native file systems, keep theirs
"""

import gzip
import math
import os
import resource
import shutil
import subprocess
import sys
import time

from bench_daemon import MIB, Daemon, programs

EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"
# libfuse gives a low-level file system no splice for replies unless it asks for it, and the example has no option.
SPLICE_BEFORE = "conn->want |= FUSE_CAP_EXPORT_SUPPORT;"
SPLICE_AFTER = "conn->want |= FUSE_CAP_EXPORT_SUPPORT | " \
               "(conn->capable & (FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE));"


def load_tool(name):
    path = os.path.join(programs(), name)
    if not shutil.which(path):
        sys.exit(f"fuse_peers: {path} is not built (make benches)")
    return path


def run_load(*arguments):
    """The words that file_reads_load prints, as numbers."""
    result = subprocess.run([load_tool("file_reads_load"), *map(str, arguments)], check=True, stdout=subprocess.PIPE,
                            text=True)
    return [float(word) for word in result.stdout.split()]


def forget_pages(*files):
    pages = run_load("drop", *files)[0]
    bound = sum(os.stat(file).st_size for file in files) // 4096 // 100
    if pages > bound:
        print(f"  {pages:.0f} pages of {files[0]} stay in the page cache", flush=True)


def raise_readahead(mountpoint):
    """To what blobcached gives its mounts, twice a request's most."""
    device = os.stat(mountpoint).st_dev
    with open(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb", "w") as file:
        file.write("2048")


def first_line(command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown version"


def make_content(folder, size, folders, files):
    """Makes the folder, the file and the tree."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "bench.img"), "wb") as image:
        for _ in range(size // MIB):
            image.write(os.urandom(MIB))
        os.fsync(image.fileno())
    for number in range(folders):
        where = os.path.join(folder, "tree", f"d{number:03}")
        os.makedirs(where)
        for name in range(files):
            with open(os.path.join(where, f"f{name:03}"), "wb") as file:
                file.write(b"a small file\n")


def end_process(process):
    """Of a mount that is gone. It may live on in a mount namespace that was made meanwhile, as containers have them, and
    then its process does not see its end."""
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Native:
    """A folder as it is."""

    def __init__(self, name, folder):
        self.name, self.version, self.is_fuse, self.most_names = name, os.uname().release, False, math.inf
        self.folder = folder
        self.file, self.tree = os.path.join(folder, "bench.img"), os.path.join(folder, "tree")
        self.on_disk = name.startswith("disk")

    def start(self):
        pass

    def forget_file(self):
        if self.on_disk:
            forget_pages(self.file)

    def forget_names(self):
        pass

    def stop(self):
        pass


class Direct(Native):
    """The same, read past the page cache."""


class Mounted:
    """A process that serves one mount until it ends, over a native file system."""

    def __init__(self, name, version, beneath, folder, command):
        self.name, self.version, self.beneath, self.is_fuse, self.most_names = name, version, beneath, True, math.inf
        self.mountpoint = os.path.join(folder, name.replace(" ", "-").replace(",", ""))
        self.command = [word.replace("MOUNTPOINT", self.mountpoint) for word in command]
        self.file, self.tree = os.path.join(self.mountpoint, "bench.img"), os.path.join(self.mountpoint, "tree")
        self.process = None
        os.makedirs(self.mountpoint, exist_ok=True)

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.ismount(self.mountpoint):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"fuse_peers: {self.name} did not mount: {' '.join(self.command)}")
            time.sleep(0.01)
        raise_readahead(self.mountpoint)

    def forget_file(self):
        forget_pages(*([self.file, self.beneath.file] if self.beneath.on_disk else [self.file]))

    def forget_names(self):
        self.stop()
        self.start()

    def stop(self):
        if os.path.ismount(self.mountpoint):
            subprocess.run(["umount", self.mountpoint], check=False)
        if self.process is not None:
            end_process(self.process)
        self.process = None


def build_passthrough(folder, splice):
    """The example of libfuse, compiled here from what its package brings; None with a line why when it cannot be."""
    source = next((path for path in (EXAMPLE, EXAMPLE + ".gz") if os.path.exists(path)), None)
    if source is None or not shutil.which("gcc"):
        print(f"  passthrough_ll is left out: {EXAMPLE} (libfuse3-dev) or gcc is missing")
        return None
    with (gzip.open if source.endswith(".gz") else open)(source, "rt") as file:
        text = file.read()
    if splice and SPLICE_BEFORE not in text:
        print("  passthrough_ll with splice is left out: the example has another text than is known here")
        return None
    name = os.path.join(folder, "passthrough_ll_splice" if splice else "passthrough_ll")
    with open(name + ".c", "w") as file:
        file.write(text.replace(SPLICE_BEFORE, SPLICE_AFTER) if splice else text)
    flags = subprocess.run(["pkg-config", "fuse3", "--cflags", "--libs"], check=True, capture_output=True,
                           text=True).stdout.split()
    subprocess.run(["gcc", "-O2", "-w", f"-I{os.path.dirname(EXAMPLE)}", "-o", name, name + ".c", *flags], check=True)
    return name


def passthroughs(folder, build, native, variants):
    """passthrough_ll over a native file system; each variant is a set of "splice" and "clone_fd". It holds a descriptor
    for each name that the kernel knows, so it gets as many as there may be, and has a bound."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found = []
    for variant in variants:
        program = build_passthrough(build, "splice" in variant)
        if program is None:
            continue
        options = f"source={native.folder},cache=always,max_idle_threads=100000"
        if "clone_fd" in variant:
            options += ",clone_fd"
        name = " ".join(["passthrough_ll", *sorted(variant)]) + f", {native.name}"
        found.append(Mounted(name, first_line([program, "-V"]), native, folder,
                             ["prlimit", f"--nofile={most}", program, "-f", "-o", options, "MOUNTPOINT"]))
        found[-1].most_names = most - 100
    return found


class Nbdfuse(Mounted):
    """nbdfuse, a client of a server for the native file: one file, and no tree."""

    def __init__(self, name, version, beneath, folder, server, socket):
        super().__init__(name, version, beneath, folder,
                         ["nbdfuse", "-r", "-C", "4", "-o", "kernel_cache", "MOUNTPOINT/bench.img",
                          f"nbd+unix:///?socket={socket}"])
        self.server_command, self.socket, self.tree, self.server = server, socket, None, None

    def start(self):
        self.server = subprocess.Popen(self.server_command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.exists(self.socket):
            if self.server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"fuse_peers: the server of {self.name} did not start")
            time.sleep(0.01)
        super().start()

    def stop(self):
        super().stop()
        if self.server is not None:
            self.server.terminate()
            end_process(self.server)
        self.server = None
        if os.path.exists(self.socket):
            os.unlink(self.socket)


def nbdfuses(folder, native):
    missing = [tool for tool in ("nbdfuse", "nbdkit") if not shutil.which(tool)]
    if missing:
        print(f"  nbdfuse is left out: {', '.join(missing)} missing")
        return []
    socket = os.path.join(folder, f"nbd-{native.name.replace(' ', '-')}.sock")
    server = ["nbdkit", "-f", "-r", "-U", socket, "file", native.file]
    version = f"{first_line(['nbdfuse', '--version'])}, {first_line(['nbdkit', '--version'])}"
    return [Nbdfuse(f"nbdfuse, {native.name}", version, native, folder, server, socket)]


class Blobcache:
    """blobcached with its store on the disk, and one mount. The tier is what has the file when it is read: "memory"
    or "disk"."""

    def __init__(self, folder, size, settings=()):
        self.name, self.is_fuse, self.most_names, self.tier = "blobcache", True, math.inf, "memory"
        self.version = first_line([os.path.join(programs(), "blobcached"), "--version"])
        self.daemon = Daemon(f"store.memory={2 * size + 64 * MIB}", f"store.disk={4 * size + 256 * MIB}", *settings,
                             folder=folder)
        self.mountpoint = os.path.join(folder, "mnt")
        self.file = os.path.join(self.mountpoint, "files", "bench.img")
        self.tree = os.path.join(self.mountpoint, "files", "tree")
        os.makedirs(self.mountpoint, exist_ok=True)

    def start(self):
        self.daemon.start()
        self.daemon.ctl("mount", self.mountpoint)

    def fill(self, native, folders, files):
        """With what the native file system has."""
        self.daemon.ctl("put", native.file, "--name", "bench.img")
        self.daemon.ctl("put", os.path.join(native.tree, "d000", "f000"), "--name", "small")
        with open(os.path.join(self.mountpoint, "files", "small"), "rb") as small:
            digest = os.getxattr(small.fileno(), "user.blobcache.digest").decode().removeprefix("sha256:")
        subprocess.run([load_tool("names_load"), self.daemon.endpoint, "16", "files/tree", digest, str(folders),
                        str(files)], check=True, stdout=subprocess.DEVNULL)

    @staticmethod
    def passes_through():
        """Whether the program was built to."""
        return subprocess.run([os.path.join(programs(), "blobcached"), "--check", "--set", "fuse.passthrough=on"],
                              check=False, capture_output=True).returncode == 0

    def requests(self):
        """That the kernel has sent since the start, when it sends no more: it gives files back and forgets names
        on its own time."""
        before = None
        while True:
            now = self.daemon.status()["fuse"]["requests"]
            if now == before:
                return now
            before = now
            time.sleep(0.1)

    def forget_file(self):
        if self.tier == "memory":
            forget_pages(self.file)  # or the kernel would answer, and what was evicted would stay so
            run_load("stream", self.file, MIB)
        else:
            self.daemon.ctl("evict", "--tier", "ram", "files/bench.img")
        forget_pages(self.file)

    def forget_names(self):
        self.daemon.ctl("umount", self.mountpoint)
        self.daemon.ctl("mount", self.mountpoint)

    def stop(self):
        self.daemon.stop()


class PassedThrough(Blobcache):
    """The same with a file that the kernel reads by itself; for the rows that are of the disk or the kernel's cache."""

    def __init__(self, folder, size):
        os.mkdir(folder)
        super().__init__(folder, size, ["fuse.passthrough=auto"])
        self.name, self.stored = "blobcache, passthrough", None

    def fill(self, native, folders, files):
        self.daemon.ctl("put", native.file, "--name", "bench.img")
        os.chmod(self.file, 0o444)
        digest = os.getxattr(self.file, "user.blobcache.digest").decode().removeprefix("sha256:")
        objects = os.path.join(self.daemon.folder, "store", "objects", digest[:2])
        self.stored = next(os.path.join(objects, name) for name in os.listdir(objects)
                           if name.startswith(digest) and not name.endswith((".map", ".names")))
        for _ in range(50):  # until all of it is verified
            forget_pages(self.file)
            before = self.daemon.status()["fuse"]["passed_through"]
            run_load("stream", self.file, MIB)
            if self.daemon.status()["fuse"]["passed_through"] > before:
                return
            time.sleep(0.2)
        sys.exit("fuse_peers: the kernel does not read the file by itself")

    def forget_file(self):
        forget_pages(self.stored)
