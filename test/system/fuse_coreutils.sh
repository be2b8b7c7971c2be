#!/bin/bash
# Ordinary tools read the mounted tree as they read any other: sha256sum, cmp, dd, find, ls, stat, tail, cp.
. "$(dirname "$0")/lib.sh"
need getfattr
need_fuse

# Sizes that are no multiple of anything, none at all, a page, an extent and one more.
mkdir "$TEST_DIR/in"
sizes=(0 1 4095 4096 4097 262144 262145 1048577 20000001)
for size in "${sizes[@]}"; do make_random "$TEST_DIR/in/$size" "$size"; done
start_daemon
mount_at "$MNT"
for size in "${sizes[@]}"; do ctl put "$TEST_DIR/in/$size" --name "in/deep/$size" >/dev/null; done

(cd "$TEST_DIR/in" && sha256sum -- *) >"$TEST_DIR/sums"
(cd "$MNT/files/in/deep" && sha256sum --check --quiet "$TEST_DIR/sums") || fail "sha256sum through FUSE"
for size in "${sizes[@]}"; do expect_same "$TEST_DIR/in/$size" "$MNT/files/in/deep/$size" "cmp of $size bytes"; done

# dd: odd offsets and block sizes, by way of the page cache and not.
big=20000001
for block in 1 7 513 4097 100003 3000001; do
  for skip in 0 1 5; do
    dd if="$TEST_DIR/in/$big" of="$TEST_DIR/want" bs=$block skip=$skip count=3 status=none
    dd if="$MNT/files/in/deep/$big" of="$TEST_DIR/got" bs=$block skip=$skip count=3 status=none
    expect_same "$TEST_DIR/want" "$TEST_DIR/got" "dd bs=$block skip=$skip"
  done
done
for skip in 0 1 17; do
  dd if="$TEST_DIR/in/$big" of="$TEST_DIR/want" bs=1M skip=$skip status=none
  dd if="$MNT/files/in/deep/$big" of="$TEST_DIR/got" bs=1M skip=$skip iflag=direct status=none
  expect_same "$TEST_DIR/want" "$TEST_DIR/got" "dd iflag=direct skip=$skip"
done
expect_equal 0 "$(dd if="$MNT/files/in/deep/$big" bs=1M skip=20 status=none | wc -c)" "bytes after the end"

# The end of a file, from behind and beyond.
tail -c 12345 "$TEST_DIR/in/$big" >"$TEST_DIR/want"
tail -c 12345 "$MNT/files/in/deep/$big" >"$TEST_DIR/got"
expect_same "$TEST_DIR/want" "$TEST_DIR/got" "tail"

# cp, and a copy of the whole tree.
cp -r "$MNT/files/in/deep" "$TEST_DIR/copy"
diff -r "$TEST_DIR/in" "$TEST_DIR/copy" || fail "cp -r"

# Names: find sees each once, ls and stat agree on the size, a digest is a name too.
expect_equal "${#sizes[@]}" "$(find "$MNT/files" -type f | wc -l)" "files that find sees"
expect_equal "${#sizes[@]}" "$(find "$MNT/blobs" -type f | wc -l)" "blobs that find sees"
expect_equal "$(printf '%s\n' "${sizes[@]}" | sort)" "$(find "$MNT/files/in/deep" -type f -printf '%s\n' | sort)" \
  "sizes that find sees"
# shellcheck disable=SC2012  # ls is what is tested
expect_equal $big "$(ls -l "$MNT/files/in/deep/$big" | awk '{print $5}')" "the size that ls -l shows"
expect_equal "regular file" "$(stat -c %F "$MNT/files/in/deep/$big")" "the type of a file"
expect_equal "directory" "$(stat -c %F "$MNT/files/in")" "the type of a directory"
expect_equal "fuse.blobcache" "$(findmnt -n -o FSTYPE "$MNT")" "the type of the mount"
digest=$(sha256_of "$TEST_DIR/in/$big")
expect_same "$TEST_DIR/in/$big" "$MNT/blobs/$digest" "cmp of a blob by its digest"
expect_equal "sha256:$digest" \
  "$(getfattr --absolute-names --only-values -n user.blobcache.digest "$MNT/files/in/deep/$big")" \
  "the digest attribute"
getfattr --absolute-names --only-values -n user.blobcache.tier "$MNT/files/in/deep/$big" |
  grep -Eqx 'memory=[0-9]+ disk=4883 pages=4883' || fail "the tier attribute"

# What was removed is gone within moments, whatever the timeouts; what is open stays.
exec {open}<"$MNT/files/in/deep/4097"
ctl rm files/in/deep/4097
is_gone() { [[ ! -e $MNT/files/in/deep/4097 ]]; }
wait_until 5 is_gone || fail "a removed name is still there"
cmp "$TEST_DIR/in/4097" - <&"$open" || fail "an open file after its name was removed"
exec {open}<&-

# Outside of files/ nothing can be changed, by nobody.
for command in "touch $MNT/blobs/new" "mkdir $MNT/d" "rm -f $MNT/blobs/$digest" "chmod 600 $MNT/blobs/$digest" \
  "ln -s x $MNT/volumes/x"; do
  # shellcheck disable=SC2086  # words
  expect_fail 1 'Operation not permitted' $command
done
for command in "truncate -s 0 $MNT/blobs/$digest" "dd if=/dev/zero of=$MNT/blobs/$digest count=1"; do
  # shellcheck disable=SC2086  # words
  expect_fail 1 'Read-only file system' $command
done

unmount_at "$MNT"
stop_daemon
