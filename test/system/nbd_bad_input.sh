#!/bin/bash
# A broken NBD message ends the connection that it came on and no other, and the daemon goes on serving.
. "$(dirname "$0")/lib.sh"
need python3 nbdcopy

make_random "$TEST_DIR/disk.img" 4M
start_daemon
ctl put "$TEST_DIR/disk.img" --name disk.img >/dev/null
python3 - "$NBD_SOCKET" "$TEST_DIR/disk.img" <<'PYTHON'
import os, socket, struct, sys

path, image = sys.argv[1], open(sys.argv[2], "rb").read()
NAME = b"files/disk.img"


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    return s


def receive(s, size):
    data = b""
    while len(data) < size:
        part = s.recv(size - len(data))
        if not part:
            raise EOFError(f"closed after {len(data)} of {size} bytes")
        data += part
    return data


def closed(s):
    """Reads to the end; true when the server closes."""
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def greet(s):
    assert receive(s, 18) == b"NBDMAGICIHAVEOPT\0\3"
    s.sendall(struct.pack(">I", 3))


def option(number, data, length=None):
    return struct.pack(">8sII", b"IHAVEOPT", number, len(data) if length is None else length) + data


def option_reply(s):
    magic, number, kind, length = struct.unpack(">QIII", receive(s, 20))
    assert magic == 0x3E889045565A9
    return kind, receive(s, length)


def go(name=NAME):
    return option(7, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))


def opened():
    s = connect()
    greet(s)
    s.sendall(go())
    assert option_reply(s)[0] == 3 and option_reply(s)[0] == 1
    return s


def request(kind, cookie, offset, length, flags=0):
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length)


def works(s, cookie=[0]):
    cookie[0] += 1
    s.sendall(request(0, cookie[0], 4096, 8192))
    magic, error, got = struct.unpack(">IIQ", receive(s, 16))
    assert (magic, error, got) == (0x67446698, 0, cookie[0])
    assert receive(s, 8192) == image[4096:12288]


def handshake(data):
    def run():
        s = connect()
        greet(s)
        s.sendall(data)
        return s
    return run


def transmission(data):
    def run():
        s = opened()
        s.sendall(data)
        return s
    return run


def flags(value):
    def run():
        s = connect()
        receive(s, 18)
        s.sendall(struct.pack(">I", value))
        return s
    return run


violations = {
    "unknown client flags": flags(0x80000003),
    "wrong option magic": handshake(b"IHAVEOPS" + struct.pack(">II", 7, 0)),
    "an option of 4 GiB": handshake(option(7, b"", 0xFFFFFFFF)),
    "an export name of 5000 bytes": handshake(option(1, b"n" * 5000)),
    "an export that is not there": handshake(option(1, b"files/nothing")),
    "noise for a handshake": handshake(bytes(range(1, 200))),
    "wrong request magic": transmission(b"\x25\x60\x95\x14" + bytes(24)),
    "the old request magic": transmission(b"\x12\x56\x09\x53" + bytes(24)),
    "noise for a request": transmission(os.urandom(4) [:3] + b"\0" + bytes(range(100, 200))),
    "a write of 4 GiB": transmission(request(1, 1, 0, 0xFFFFFFFF)),
    "an HTTP request": handshake(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
}
cut_short = {
    "half the client flags": flags(3),
    "half an option header": handshake(b"IHAVEOPT\0\0"),
    "half an option": handshake(option(7, b"half", 100)),
    "half a request": transmission(request(0, 1, 0, 4096)[:13]),
    "half a write": transmission(request(1, 1, 0, 4096) + b"x" * 100),
}

healthy = opened()
works(healthy)
for what, run in violations.items():
    assert closed(run()), what
    works(healthy)
for what, run in cut_short.items():
    s = run()
    s.shutdown(socket.SHUT_WR)
    assert closed(s), what
    works(healthy)

# What is merely refused leaves its own connection working, too.
s = connect()
greet(s)
for bad, kind in [
    (option(3, b"x"), 0x80000003),
    (option(8, b"x"), 0x80000003),
    (option(7, b"\xff\xff\xff\xff" + bytes(8)), 0x80000003),
    (option(7, b"x" * 70000), 0x80000009),
    (option(4242, b"what?"), 0x80000001),
    (option(5, b""), 0x80000002),
    (go(b"files/nothing"), 0x80000006),
    (go(b"../etc/passwd"), 0x80000006),
    (go(b"\xff\x00\xfe"), 0x80000006),
]:
    s.sendall(bad)
    assert option_reply(s)[0] == kind, bad[:40]
s.sendall(go())
assert option_reply(s)[0] == 3 and option_reply(s)[0] == 1
size = len(image)
for kind, offset, length, flag, error in [
    (0, size, 1, 0, 22), (0, size - 1, 2, 0, 22), (0, 2**64 - 1, 4096, 0, 22), (0, 0, 0, 0, 22),
    (0, 0, 0xFFFFFFFF, 0, 22), (0, 0, 4096, 0xFFFF, 22), (4, 0, 4096, 0, 1), (6, 0, 4096, 0, 1),
    (7, 0, 4096, 0, 22), (99, 0, 0, 0, 22),
]:
    s.sendall(request(kind, 7, offset, length, flag))
    assert struct.unpack(">IIQ", receive(s, 16)) == (0x67446698, error, 7), (kind, offset, length)
s.sendall(request(1, 8, 0, 300000) + b"\x25" * 300000)
assert struct.unpack(">IIQ", receive(s, 16)) == (0x67446698, 1, 8)
works(s)

# Clients that hang up with reads in flight.
for _ in range(50):
    gone = opened()
    gone.sendall(b"".join(request(0, i, i * 4096, 65536) for i in range(64)))
    gone.close()
works(healthy)
works(s)
PYTHON
nbdcopy "$(nbd_uri files/disk.img)" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "the export after all that"
stop_daemon
