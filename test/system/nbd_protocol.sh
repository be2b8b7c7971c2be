#!/bin/bash
# The whole NBD protocol with the clients that speak it: metadata contexts, holes, limits, extended headers.
. "$(dirname "$0")/lib.sh"
PATH=$PATH:/usr/sbin
need jq nbdinfo nbdcopy qemu-img qemu-io /usr/bin/python3 openssl nbd-client
# The distribution's own, whatever else is in the path: the module is its.
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "needs python3-libnbd"

# 5 GiB, nearly all of it a hole: 2 MiB of data at 1 MiB, a page at 3 GiB, and a byte at the end.
SIZE=$((5 << 30))
make_random "$TEST_DIR/data" 2M
truncate -s "$SIZE" "$TEST_DIR/disk.img"
dd if="$TEST_DIR/data" of="$TEST_DIR/disk.img" bs=1M seek=1 conv=notrunc status=none
dd if="$TEST_DIR/data" of="$TEST_DIR/disk.img" bs=4K count=1 seek=$((3 << 18)) conv=notrunc status=none
printf x | dd of="$TEST_DIR/disk.img" bs=1 seek=$((SIZE - 1)) conv=notrunc status=none

write_config
sed -i "s|^listen = \[\"unix:$NBD_SOCKET\"\]|listen = [\"unix:$NBD_SOCKET\", \"tcp:127.0.0.1:0\"]|" "$CONFIG"
start_daemon
ctl put "$TEST_DIR/disk.img" --name disk.img >/dev/null
uri=$(nbd_uri files/disk.img)
ctl evict files/disk.img --tier ram >/dev/null

# The contexts are listed, and what they say is right.
nbdinfo --json --no-content "$uri" >"$TEST_DIR/info.json"
expect_equal '["base:allocation","blobcache:tier"]' \
  "$(jq -c '.exports[0].contexts | sort' "$TEST_DIR/info.json")" "the contexts"
expect_equal '"5.0 GiB, read-only"' "$(jq -c '.exports[0].description' "$TEST_DIR/info.json")" "the description"
for flag in can_df can_cache can_flush can_multi_conn is_read_only; do
  expect_equal true "$(jq ".exports[0].$flag" "$TEST_DIR/info.json")" "$flag"
done
for flag in can_trim can_zero can_fua can_fast_zero; do
  expect_equal false "$(jq ".exports[0].$flag" "$TEST_DIR/info.json")" "$flag"
done
nbdinfo --list --json "nbd+unix:///?socket=$NBD_SOCKET" |
  jq -e '[.exports[] | select(."export-name" == "files/disk.img")] | length == 1' >/dev/null ||
  fail "the export is not in the list once"

# nbd-client lists over TCP alone.
port=$(sed -nE 's/.*nbd listens on tcp:127\.0\.0\.1:([0-9]+).*/\1/p' "$DAEMON_LOG")
nbd-client -l 127.0.0.1 "$port" >"$TEST_DIR/names" || fail "nbd-client -l: $(cat "$TEST_DIR/names")"
grep -qx ' *files/disk.img' "$TEST_DIR/names" || fail "nbd-client -l: $(cat "$TEST_DIR/names")"

runs() { jq -c '[.[] | [.offset, .length, .type]]' "$1"; }
nbdinfo --json --map "$uri" >"$TEST_DIR/map.json"
holes="[[0,1048576,3],[1048576,2097152,0],[3145728,3218079744,3],[3221225472,4096,0],"
holes+="[3221229568,2147475456,3],[5368705024,4096,0]]"
expect_equal "$holes" "$(runs "$TEST_DIR/map.json")" "base:allocation"
nbdinfo --json --map=blobcache:tier "$uri" >"$TEST_DIR/map.json"
expect_equal "${holes//,0]/,1]}" "$(runs "$TEST_DIR/map.json")" "blobcache:tier of what is on disk"
qemu-io -r -f raw -c "read 1M 2M" "$uri" >/dev/null
nbdinfo --json --map=blobcache:tier "$uri" >"$TEST_DIR/map.json"
tiers="[[0,1048576,3],[1048576,2097152,0],[3145728,3218079744,3],[3221225472,4096,1],"
tiers+="[3221229568,2147475456,3],[5368705024,4096,1]]"
expect_equal "$tiers" "$(runs "$TEST_DIR/map.json")" "blobcache:tier once a part was read"
qemu-img map --output=json -f raw "$uri" >"$TEST_DIR/map.json"
expect_equal "[[1048576,2097152],[3221225472,4096],[5368705024,4096]]" \
  "$(jq -c '[.[] | select(.data) | [.start, .length]]' "$TEST_DIR/map.json")" "what qemu takes for data"

# Holes stay holes.
nbdcopy "$uri" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "nbdcopy of a sparse export"
(($(stat -c %b "$TEST_DIR/copy") * 512 < 16 << 20)) || fail "the copy of a sparse export is not sparse"
rm "$TEST_DIR/copy"
qemu-img convert -f raw -O qcow2 "$uri" "$TEST_DIR/copy.qcow2"
qemu-img compare -f raw -F qcow2 "$TEST_DIR/disk.img" "$TEST_DIR/copy.qcow2" >/dev/null

/usr/bin/python3 - "$NBD_SOCKET" "$TEST_DIR/disk.img" <<'PYTHON'
import errno, nbd, os, socket, struct, sys

path, image = sys.argv[1], open(sys.argv[2], "rb")
SIZE = os.path.getsize(sys.argv[2])
MIB = 1 << 20


def content(offset, length):
    image.seek(offset)
    return image.read(length)


def opened(*contexts, strict=True, structured=True):
    h = nbd.NBD()
    h.set_export_name("files/disk.img")
    h.set_request_structured_replies(structured)
    for context in contexts:
        h.add_meta_context(context)
    if not strict:
        h.set_strict_mode(0)
    h.connect_unix(path)
    return h


def refused(number, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except nbd.Error as error:
        assert error.errnum == number, (error, call, arguments)
        return
    raise AssertionError(f"{call} {arguments} was not refused")


def chunks_of(h, length, offset, flags=0):
    chunks = []

    def chunk(data, at, status, error):
        chunks.append((at, len(data), status))

    assert h.pread_structured(length, offset, chunk, flags) == content(offset, length)
    return chunks


def runs_of(h, length, offset, flags=0):
    runs = {}

    def extent(context, at, entries, error):
        assert context not in runs and at == offset
        runs[context] = list(zip(entries[0::2], entries[1::2]))

    h.block_status(length, offset, extent, flags)
    return runs


h = opened("base:allocation", "blobcache:tier")
assert h.can_meta_context("base:allocation") and h.can_meta_context("blobcache:tier")
assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 * MIB

# Reads: holes come as holes, don't-fragment as one chunk up to what a read may have.
assert chunks_of(h, 4096, 0) == [(0, 4096, nbd.READ_HOLE)]
assert chunks_of(h, 20000, 3 * MIB - 100, nbd.CMD_FLAG_DF) == [(3 * MIB - 100, 20000, nbd.READ_DATA)]
mixed = chunks_of(h, 32 * MIB, 0)
assert sum(length for _, length, kind in mixed if kind == nbd.READ_DATA) == 2 * MIB, mixed
assert chunks_of(h, 32 * MIB, 0, nbd.CMD_FLAG_DF) == [(0, 32 * MIB, nbd.READ_DATA)]
assert h.pread(1, SIZE - 1) == b"x"

# Block status over all that 32 bits can ask for, one run, and the last byte.
runs = runs_of(h, 0xFFFFFFFF, 0)
assert runs["base:allocation"][:3] == [(MIB, 3), (2 * MIB, 0), (3218079744, 3)], runs
assert runs["blobcache:tier"][0] == (MIB, 3)
assert sum(length for length, _ in runs["base:allocation"]) == 0xFFFFFFFF
assert runs_of(h, 3 * MIB, 0, nbd.CMD_FLAG_REQ_ONE)["base:allocation"] == [(MIB, 3)]
assert runs_of(h, 1, SIZE - 1)["base:allocation"] == [(1, 0)]

# CACHE takes any length; it is a hint.
h.cache(0xFFFFFFFF, 0)
h.cache(4096, SIZE - 4096)

# What strict clients do not send.
loose = opened("base:allocation", strict=False)
refused(errno.EINVAL, loose.pread, 2, SIZE - 1)
refused(errno.EINVAL, loose.pread, 1, SIZE)
refused(errno.EINVAL, loose.cache, 2, SIZE - 1)
refused(errno.EINVAL, loose.block_status, 2, SIZE - 1, lambda *_: 0)
refused(errno.EPERM, loose.pwrite, b"x" * 4096, 0)
refused(errno.EPERM, loose.zero, 4096, 0)
refused(errno.EPERM, loose.zero, 4096, 0, nbd.CMD_FLAG_NO_HOLE)
refused(errno.EPERM, loose.trim, 4096, 0)
refused(errno.EINVAL, loose.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO)
refused(errno.EINVAL, loose.pread, 4096, 0, nbd.CMD_FLAG_FUA)
loose.flush()
assert loose.pread(4096, MIB) == content(MIB, 4096)

# Without structured replies there are no contexts, and no holes.
simple = opened("base:allocation", strict=False, structured=False)
assert not simple.can_meta_context("base:allocation") and not simple.can_df()
refused(errno.EINVAL, simple.pread, 4096, 0, nbd.CMD_FLAG_DF)
assert simple.pread(3 * MIB, MIB) == content(MIB, 3 * MIB)

# Options, one by one.
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(path)
found = []
h.set_export_name("files/disk.img")
assert h.opt_list_meta_context(lambda name: found.append(name)) == 2
h.add_meta_context("base:")
found.clear()
assert h.opt_list_meta_context(lambda name: found.append(name)) == 1 and found == ["base:allocation"]
h.set_export_name("files/nothing")
refused(errno.ENOTSUP, h.opt_list_meta_context, lambda name: 0)  # what the client makes of it
refused(errno.ENOENT, h.opt_info)
h.set_export_name("files/disk.img")
h.opt_info()
assert h.get_size() == SIZE
h.opt_abort()


# Extended headers, which this client does not know.
def receive(s, size):
    data = b""
    while len(data) < size:
        part = s.recv(size - len(data))
        assert part, "closed"
        data += part
    return data


def option(s, number, data=b""):
    s.sendall(struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data)
    replies = []
    while True:
        _, _, kind, length = struct.unpack(">QIII", receive(s, 20))
        replies.append((kind, receive(s, length)))
        if kind == 1 or kind >= 1 << 31:
            return replies


def text(value):
    return struct.pack(">I", len(value)) + value


s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
s.connect(path)
receive(s, 18)
s.sendall(struct.pack(">I", 3))
assert option(s, 11)[-1][0] == 1
assert option(s, 8)[-1][0] == (1 << 31) + 10
name = b"files/disk.img"
contexts = option(s, 10, text(name) + struct.pack(">I", 1) + text(b"base:allocation"))
assert contexts[0] == (4, struct.pack(">I", 1) + b"base:allocation")
assert option(s, 7, text(name) + struct.pack(">H", 0))[-1][0] == 1


def request(kind, offset, length, flags=0, payload=b""):
    s.sendall(struct.pack(">IHHQQQ", 0x21E41C71, flags, kind, 7, offset, length) + payload)
    magic, flags, kind, cookie, at, length = struct.unpack(">IHHQQQ", receive(s, 32))
    assert (magic, cookie, at) == (0x6E8A278C, 7, offset)
    return kind, flags, receive(s, length)


# All 5 GiB are asked for at once, and 4 of them told.
kind, flags, data = request(7, 0, SIZE)
assert (kind, flags, struct.unpack(">II", data[:8])) == (6, 1, (1, (len(data) - 8) // 16))
runs = [struct.unpack(">QQ", data[at : at + 16]) for at in range(8, len(data), 16)]
assert runs[:3] == [(MIB, 3), (2 * MIB, 0), (3218079744, 3)], runs
assert sum(length for length, _ in runs) == 4 << 30
assert request(0, MIB, 4096) == (1, 1, struct.pack(">Q", MIB) + content(MIB, 4096))
assert request(0, 0, MIB) == (2, 1, struct.pack(">QI", 0, MIB))
assert request(5, 0, SIZE)[0] == 0
for refusal, number in [
    (request(0, 0, 33 * MIB), 75),
    (request(0, SIZE, 1), 22),
    (request(7, 0, 12, 0x20, b"twelve bytes"), 22),
    (request(1, 0, 12, 0x20, b"twelve bytes"), 1),
    (request(1, 0, 12, 0, b"twelve bytes"), 1),  # as qemu 10 writes
]:
    assert refusal[0] & 0x8000 and struct.unpack(">I", refusal[2][:4])[0] == number, (refusal, number)
assert request(3, 0, 0)[0] == 0
PYTHON

stop_daemon
