#!/bin/bash
# The NBD clients that people use find an export, learn what it is and read it right, alone and in parallel.
. "$(dirname "$0")/lib.sh"
need jq nbdinfo nbdcopy qemu-img qemu-io fio cmp

make_random "$TEST_DIR/disk.img" 48M
make_random "$TEST_DIR/odd name" 1000003
start_daemon --set nbd.default_export=files/images/disk.img
ctl put "$TEST_DIR/disk.img" --name images/disk.img >/dev/null
ctl put "$TEST_DIR/odd name" --name "odd name" >/dev/null
uri=$(nbd_uri files/images/disk.img)

# nbdinfo: the list, the default export, and what an export says of itself.
nbdinfo --list --no-content --json "nbd+unix:///?socket=$NBD_SOCKET" >"$TEST_DIR/list.json"
expect_equal '["blobs","blobs","files/images/disk.img","files/odd name"]' \
  "$(jq -c '[.exports[]."export-name" | if startswith("blobs/") then "blobs" else . end] | sort' \
    "$TEST_DIR/list.json")" \
  "the listed exports"
nbdinfo --no-content --json "$uri" >"$TEST_DIR/info.json"
info() { jq -c "$1" "$TEST_DIR/info.json"; }
expect_equal '"newstyle-fixed"' "$(info .protocol)" "the protocol"
expect_equal true "$(info .structured)" "structured replies"
expect_equal "$((48 << 20))" "$(info '.exports[0]."export-size"')" "the export's size"
expect_equal true "$(info '.exports[0].is_read_only')" "the read-only flag"
expect_equal true "$(info '.exports[0].can_multi_conn')" "the multi-conn flag"
expect_equal '[1,4096,33554432]' \
  "$(info '.exports[0] | [.block_size_minimum, .block_size_preferred, .block_size_maximum]')" "the block sizes"
expect_equal "$((48 << 20))" "$(nbdinfo --size "nbd+unix:///?socket=$NBD_SOCKET")" "the default export's size"
expect_fail any 'No such file' nbdinfo "$(nbd_uri files/nothing)"
expect_fail any 'No such file' nbdinfo "$(nbd_uri files/images)"

# nbdcopy: over one connection and four, with small and large requests; sizes that no block divides.
nbdcopy "$uri" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "nbdcopy"
nbdcopy --connections=4 --requests=32 --request-size=$((32 << 20)) "$uri" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "nbdcopy over four connections"
nbdcopy --synchronous --request-size=4096 "$(nbd_uri "files/odd name")" - | cmp - "$TEST_DIR/odd name"

# qemu: whole images, and reads that begin and end anywhere.
qemu-img compare -f raw -F raw "$TEST_DIR/disk.img" "$uri"
qemu-img convert -f raw -O raw -n -m 16 -W "$uri" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "qemu-img convert"
for range in "0 512" "511 2" "262143 4099" "1048575 1048578" "8388607 20971525"; do
  read -r offset length <<<"$range"
  qemu-io -r -f raw -c "read -v $offset $length" "$TEST_DIR/disk.img" >"$TEST_DIR/want"
  qemu-io -r -f raw -c "read -v $offset $length" "$uri" >"$TEST_DIR/got"
  expect_equal "$(grep -E '^[0-9a-f]{8}:' "$TEST_DIR/want" | sha256_of -)" \
    "$(grep -E '^[0-9a-f]{8}:' "$TEST_DIR/got" | sha256_of -)" "qemu-io read $offset $length"
done

# fio: random and sequential reads, many in flight, without an error.
for job in "randread 4k 32" "read 256k 16" "randread 1m 4"; do
  read -r rw bs depth <<<"$job"
  fio --name=job --ioengine=nbd --uri="$uri" --rw="$rw" --bs="$bs" --iodepth="$depth" --size=48M \
    --output-format=json --output="$TEST_DIR/fio.json"
  expect_equal 0 "$(jq '.jobs[0].error + .jobs[0].total_err' "$TEST_DIR/fio.json")" "fio's errors, $job"
  expect_equal "$((48 << 20))" "$(jq '.jobs[0].read.io_bytes' "$TEST_DIR/fio.json")" "fio's bytes, $job"
done

# A write is refused, and what was there is still there.
expect_fail any 'Permission denied|[Rr]ead.only' qemu-io -f raw -c "write 0 4096" "$uri"
nbdcopy "$uri" "$TEST_DIR/copy"
expect_same "$TEST_DIR/disk.img" "$TEST_DIR/copy" "the export after a write was refused"

stop_daemon
