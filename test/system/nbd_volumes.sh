#!/bin/bash
# Volumes: real clients write, trim, zero and flush; what they wrote is there after kill -9, through FUSE, and in the
# blob that a commit makes.
# limit: 300 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdinfo nbdcopy qemu-img qemu-io fio cmp

make_random "$TEST_DIR/base.img" 24M
start_daemon
ctl put "$TEST_DIR/base.img" --name images/base.img >/dev/null

# Made, listed, described.
expect_equal volumes/empty "$(ctl volume create empty --size 64MiB)" "what create prints"
ctl volume create volumes/over --base files/images/base.img --size 32MiB >/dev/null
expect_equal '[["empty",67108864,null],["over",33554432,"sha256"]]' \
  "$(ctl --json volume ls | jq -c '[.volumes[] | [.name, .size, (.base // null | if . then .[0:6] else . end)]]')" \
  "the listed volumes"
expect_equal volume "$(ctl --json stat volumes/over | jq -r .type)" "the type that stat tells"
ctl exports >"$TEST_DIR/exports"
grep -Eq 'read-write +volumes/over' "$TEST_DIR/exports" || fail "exports does not list volumes/over as writable"
uri=$(nbd_uri volumes/over)
nbdinfo --no-content --json "$uri" >"$TEST_DIR/info.json"
info() { jq -c ".exports[0].$1" "$TEST_DIR/info.json"; }
expect_equal "$((32 << 20))" "$(info '"export-size"')" "the export's size"
expect_equal false "$(info is_read_only)" "the read-only flag"
for can in can_multi_conn can_flush can_fua can_trim can_zero can_fast_zero; do
  expect_equal true "$(info "$can")" "$can"
done

# Wrong input says why, and changes nothing.
expect_fail 1 'there is a volume of that name|is there already' ctl volume create over --size 1MiB
expect_fail 2 'needs a --size' ctl volume create none
expect_fail 2 'multiple of 512' ctl volume create none --size 1000
expect_fail 1 'base' ctl volume create none --base files/images/base.img --size 1MiB
expect_fail 1 'files/none' ctl volume create none --base files/none
expect_fail 1 'only grow' ctl volume resize over --size 1MiB
expect_fail 1 'no such volume' ctl volume rm none
expect_fail 1 'no such volume' ctl volume commit none
expect_fail 1 'volume rm' ctl rm volumes/over
expect_fail 1 'is a volume' ctl get volumes/over
expect_fail 1 'is a volume' ctl pin volumes/over
qemu-img create -q -f qcow2 "$TEST_DIR/cow" 1M
ctl put "$TEST_DIR/cow" --name cow >/dev/null
expect_fail 1 'qemu-img convert -O raw' ctl volume create none --base files/cow

# The base shows through, and copies are the volume's own.
head -c 32M <(cat "$TEST_DIR/base.img" /dev/zero) >"$TEST_DIR/want"
nbdcopy "$uri" "$TEST_DIR/got"
expect_same "$TEST_DIR/want" "$TEST_DIR/got" "a volume that nobody wrote to"
write_both() {
  qemu-io -f raw -t writeback -c "$1" "$TEST_DIR/want" >/dev/null
  qemu-io -f raw -t writeback -c "$1" "$uri" >"$TEST_DIR/io" || fail "qemu-io $1: $(cat "$TEST_DIR/io")"
  if grep -q 'failed' "$TEST_DIR/io"; then fail "qemu-io $1: $(cat "$TEST_DIR/io")"; fi
}
write_both "write -P 0x11 0 4096"
write_both "write -P 0x22 511 2"
write_both "write -P 0x33 8388607 2097155"
write_both "write -z 12582912 1048576"
write_both "write -z -u 16777216 1048576"
write_both "write -f -P 0x44 30000000 70000"
qemu-img compare -f raw -F raw "$TEST_DIR/want" "$uri"
ctl get files/images/base.img | cmp - "$TEST_DIR/base.img" || fail "the base has changed"

# A trim is a hole that reads as zeros and gives its room back.
own_before=$(ctl --json volume ls | jq '.volumes[] | select(.name == "over").own_bytes')
qemu-io -f raw -d unmap -c "discard 8388608 2097152" "$uri" >/dev/null
cmp -n 2097152 -i 8388608:0 <(nbdcopy "$uri" -) /dev/zero || fail "what was trimmed is not zero"
own_after=$(ctl --json volume ls | jq '.volumes[] | select(.name == "over").own_bytes')
((own_after <= own_before - 2097152 + 8192)) || fail "a trim gave no room back: $own_before, then $own_after"
qemu-img map --output=json -f raw "$uri" >"$TEST_DIR/map"
jq -e '[.[] | select(.zero and (.data | not))] | length > 0' "$TEST_DIR/map" >/dev/null || fail "no hole in the map"
qemu-io -f raw -t writeback -c "write -z 8388608 2097152" "$TEST_DIR/want" >/dev/null

# FUSE reads what a client has just written, with nothing in between.
mount_at "$MNT"
cmp "$MNT/volumes/over" "$TEST_DIR/want" || fail "FUSE shows another image"
for byte in 0x51 0x52 0x53; do
  write_both "write -P $byte 65536 4096"
  cmp "$MNT/volumes/over" "$TEST_DIR/want" || fail "FUSE does not show what was written last"
done
exec 8<"$MNT/volumes/over"
expect_fail 1 'in use' ctl volume rm over
exec 8<&-

# A commit is one moment, and the volume stays in use.
digest=$(ctl volume commit over --name images/over.img)
expect_equal "sha256:$(sha256_of "$TEST_DIR/want")" "$digest" "the digest of a commit"
ctl get files/images/over.img | cmp - "$TEST_DIR/want" || fail "the committed blob differs"

# fio writes at random, flushes, and is still right after kill -9; all that was answered is there.
fio_job() {
  fio --name=job --ioengine=nbd --uri="$(nbd_uri volumes/empty)" --rw=randwrite --bs=1k-64k --iodepth=16 --size=64M \
    --io_size=32M --randseed=7 --verify=crc32c --verify_backlog=0 --verify_state_save=0 \
    --output-format=json "$@"
}
fio_job --do_verify=0 --output="$TEST_DIR/fio.json"
expect_equal 0 "$(jq '.jobs[0].error + .jobs[0].total_err' "$TEST_DIR/fio.json")" "fio's errors in writing"
nbdcopy "$(nbd_uri volumes/empty)" "$TEST_DIR/before"
kill_daemon
start_daemon
nbdcopy "$(nbd_uri volumes/empty)" "$TEST_DIR/after"
expect_same "$TEST_DIR/before" "$TEST_DIR/after" "after kill -9"
fio_job --verify_only --output="$TEST_DIR/fio.json"
expect_equal 0 "$(jq '.jobs[0].error + .jobs[0].total_err' "$TEST_DIR/fio.json")" "fio's errors in verifying"
nbdcopy "$uri" "$TEST_DIR/got"
expect_same "$TEST_DIR/want" "$TEST_DIR/got" "the other volume after kill -9"

# What is a hole of the base is a hole of the volume, and nobody moves its zeros.
truncate -s 16M "$TEST_DIR/sparse"
head -c 1M /dev/urandom | dd of="$TEST_DIR/sparse" bs=1M seek=4 conv=notrunc status=none
ctl put "$TEST_DIR/sparse" --name images/sparse.img >/dev/null
ctl volume create thin --base files/images/sparse.img --size 32MiB >/dev/null
thin=$(nbd_uri volumes/thin)
qemu-io -f raw -c 'write -P 7 8M 64k' "$thin" >/dev/null
extents=$(nbdinfo --map --json "$thin" | jq -c '[.[] | select(.type == 0) | [.offset, .length]]')
expect_equal '[[4194304,1048576],[8388608,65536]]' "$extents" "what is data, for nbdinfo"
extents=$(qemu-img map -f raw --output=json "$thin" | jq -c '[.[] | select(.data) | [.start, .length]]')
expect_equal '[[4194304,1048576],[8388608,65536]]' "$extents" "what is data, for qemu-img"
sent=$(ctl --json status | jq .nbd.bytes_out)
nbdcopy "$thin" "$TEST_DIR/got"
sent=$(($(ctl --json status | jq .nbd.bytes_out) - sent))
((sent < 2 << 20)) || fail "nbdcopy was sent $sent bytes"
truncate -s 32M "$TEST_DIR/sparse"
head -c 64k /dev/zero | tr '\0' '\7' | dd of="$TEST_DIR/sparse" bs=64k seek=128 conv=notrunc status=none
expect_same "$TEST_DIR/sparse" "$TEST_DIR/got" "a thin volume"
ctl volume rm thin

# Larger, and gone.
expect_equal "" "$(ctl volume resize over --size 40MiB)" "what resize says without devices"
expect_equal '[]' "$(ctl --json volume resize over --size 40MiB | jq -c .devices)" "no devices"
expect_equal "$((40 << 20))" "$(nbdinfo --size "$uri")" "the size after a resize"
ctl volume rm over
ctl volume rm empty
expect_equal 0 "$(find "$STORE/volumes" -mindepth 1 -maxdepth 1 | wc -l)" "folders that are left"
expect_fail any 'No such file' nbdinfo "$uri"

stop_daemon
