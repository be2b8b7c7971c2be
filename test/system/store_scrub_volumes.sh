#!/bin/bash
# scrub reads the own pages of volumes: what rots in a volume's file is named with its place, a volume that cannot be
# opened with the reason, and a client that writes meanwhile is no damage.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy qemu-io

cd "$TEST_DIR"
start_daemon
make_random base 2M
make_random content 8M
ctl put base --name base >/dev/null
ctl volume create dv --size 64M >/dev/null
ctl volume create over --base files/base >/dev/null
ctl volume create whole --size 8M >/dev/null
nbdcopy content "$(nbd_uri volumes/dv)"
nbdcopy content "$(nbd_uri volumes/whole)"
qemu-io -f raw -c 'write -q -P 7 1M 64k' "$(nbd_uri volumes/over)"

# flip FILE OFFSET: one byte becomes another.
flip() {
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf '%b' "\\x$(printf %x $((byte ^ 64)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# folder_of NAME: where the store keeps the volume.
folder_of() { dirname "$(grep -lx "$1" "$STORE"/volumes/*/name)"; }

# Nothing is damaged, and all that the volumes have of their own was read: 16 MiB and 64 KiB.
ctl --json scrub --rate unlimited volumes >json
jq -e '.path == "volumes" and .objects == 3 and .bytes == 16842752 and .pages == 4112 and .damaged == []' json \
  >/dev/null || fail "JSON of whole volumes: $(cat json)"
ctl scrub --rate unlimited | grep -q '^4 objects, .*: no damage$' || fail "a clean store"
ctl scrub volumes/over | grep -q '^1 object, 64.* read .*: no damage$' || fail "one volume"

# Damage, while the daemon is stopped.
stop_daemon
dv=$(folder_of dv)
over=$(folder_of over)
flip "$dv/data" 5000
flip "$dv/data" 8200
flip "$dv/data" 4194304
mv "$over/header" "$over/header.away"
start_daemon
expect_fail 1 '^blobcachectl: scrub volumes/dv: 1 of 1 object damaged$' ctl scrub volumes/dv
out=$TEST_DIR/expect.out
grep -Fxq 'volumes/dv: pages do not match their checksums' "$out" || fail "text: $(cat "$out")"
grep -Fxq '  8192 bytes at 4096' "$out" || fail "ranges: $(cat "$out")"
grep -Fxq '  4096 bytes at 4194304' "$out" || fail "ranges: $(cat "$out")"
tail -n 1 "$out" | grep -Eq '^1 object, .* 1 damaged, 3 damaged pages$' || fail "the last line: $(tail -n 1 "$out")"
status=0
ctl --json scrub --rate unlimited >json 2>err || status=$?
expect_equal 1 "$status" "status of a scrub that found damage"
expect_equal 'blobcachectl: scrub: 2 of 4 objects damaged' "$(cat err)" "what it said"
jq -e '.damaged_pages == 3 and (.damaged | length) == 2 and (.damaged[] | select(.names == ["volumes/dv"])
  | .digest == null and .size == 67108864 and .pages == 3
  and .ranges == [{offset: 4096, length: 8192}, {offset: 4194304, length: 4096}])' json >/dev/null ||
  fail "what is said of dv: $(cat json)"
jq -e '.damaged[] | select(.names == ["volumes/over"]) | .ranges == [] and (.reason | test("cannot be opened"))' json \
  >/dev/null || fail "what is said of over: $(cat json)"
ctl scrub volumes/whole | grep -q ': no damage$' || fail "the volume that is whole"

# What was written anew is whole; a client may write all the while.
nbdcopy content "$(nbd_uri volumes/dv)"
qemu-io -f raw -c 'write -q -P 1 0 8M' -c 'write -q -P 2 0 8M' -c 'write -q -P 3 0 8M' "$(nbd_uri volumes/dv)" &
writer=$!
for _ in 1 2 3 4 5; do ctl scrub --rate unlimited volumes/dv >out || fail "scrub beside a writer: $(cat out)"; done
wait "$writer" || fail "the writer"

# Ctrl-C ends it, and then nobody has the volume.
env --default-signal=INT "$BIN/blobcachectl" scrub --rate 1KiB volumes/dv >out 2>err &
scrub=$!
in_use() { [[ $(ctl --json volume ls | jq '.volumes[] | select(.name == "dv").in_use') == "$1" ]]; }
wait_until 30 in_use true || fail "the scrub does not use the volume"
expect_fail 1 'is in use' ctl volume rm dv
kill -INT "$scrub"
status=0
wait "$scrub" || status=$?
expect_equal 130 "$status" "status of a scrub that was interrupted"
wait_until 30 in_use false || fail "the volume is in use after the scrub"
ctl volume rm dv >/dev/null
stop_daemon
