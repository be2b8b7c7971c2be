#!/bin/bash
# What was put comes back with get, byte for byte, whole and in parts, by name, by digest and by blob path.
. "$(dirname "$0")/lib.sh"
need jq

start_daemon

# put_and_get NAME: puts $TEST_DIR/NAME and gets it in every way.
put_and_get() {
  local file=$TEST_DIR/$1 hex back=$TEST_DIR/back
  hex=$(sha256_of "$file")
  expect_equal "sha256:$hex" "$(ctl put "$file" --name "demo/$1")" "what put prints for $1"
  ctl get "files/demo/$1" -o "$back"
  expect_same "$file" "$back" "get by name of $1"
  ctl get "sha256:$hex" >"$back"
  expect_same "$file" "$back" "get by digest of $1"
  ctl get "blobs/$hex" >"$back"
  expect_same "$file" "$back" "get by blob path of $1"
}

for size in 0 1 4095 4096 4097 262143 262144 262145 1048577 3M; do
  make_random "$TEST_DIR/f$size" "$size"
  put_and_get "f$size"
done

# Holes at the begin, in the middle and at the end.
truncate -s 20M "$TEST_DIR/sparse"
dd if="$TEST_DIR/f3M" of="$TEST_DIR/sparse" bs=4096 seek=1111 conv=notrunc status=none
dd if="$TEST_DIR/f4097" of="$TEST_DIR/sparse" bs=1 seek=13000001 conv=notrunc status=none
put_and_get sparse
truncate -s 1M "$TEST_DIR/zeros"
put_and_get zeros

# From standard input, without a name.
expect_equal "sha256:$(sha256_of "$TEST_DIR/f3M")" "$(ctl put - <"$TEST_DIR/f3M")" "put of standard input"
expect_equal "sha256:$(printf 'some words' | sha256_of -)" "$(printf 'some words' | ctl put -)" "put of a pipe"

# Parts: offsets and lengths on and off the borders of pages and extents, up to the very end.
for range in 0:1 1:4096 4095:2 4096:4096 262100:100 262144:262144 1000000:1500000 3145727:1 3145000:728; do
  offset=${range%:*} length=${range#*:}
  tail -c "+$((offset + 1))" "$TEST_DIR/f3M" | head -c "$length" >"$TEST_DIR/part" || true
  ctl get files/demo/f3M --offset "$offset" --length "$length" -o "$TEST_DIR/back"
  expect_same "$TEST_DIR/part" "$TEST_DIR/back" "bytes $range"
done
ctl get files/demo/f3M --offset 3000000 -o "$TEST_DIR/back"
tail -c +3000001 "$TEST_DIR/f3M" | cmp - "$TEST_DIR/back" || fail "get with an offset alone"

# A name can be bound anew; what it meant stays under its digest.
old=$(sha256_of "$TEST_DIR/f1")
ctl put "$TEST_DIR/f4096" --name demo/f1 >/dev/null
ctl get files/demo/f1 | cmp - "$TEST_DIR/f4096" || fail "a name that was bound anew"
ctl get "sha256:$old" | cmp - "$TEST_DIR/f1" || fail "the blob behind the old name"

# Bad input: one clear line, and nothing lost.
expect_fail 1 '^blobcachectl: .*no/such' ctl get files/no/such
expect_fail 1 '^blobcachectl: ' ctl get "sha256:$(printf '%064d' 0)"
expect_fail 1 '^blobcachectl: .*nothing-here' ctl put "$TEST_DIR/nothing-here" --name demo/x
expect_fail any '^blobcachectl: ' ctl put "$TEST_DIR/f1" --name demo/../x
expect_fail 1 '^blobcachectl: ' ctl put "$TEST_DIR" --name demo/x
expect_fail any '^blobcachectl: ' ctl get sha256:123
expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines of an error"
ctl get files/demo/f1 | cmp - "$TEST_DIR/f4096" || fail "after the errors"

stop_daemon
expect_fail 3 '^blobcachectl: ' ctl get files/demo/f1
