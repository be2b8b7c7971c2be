#!/bin/bash
# A directory as an origin: its files come through every door as they are, a changed one is another version and never
# a mix, nothing leads out of it, and what was read is cached for as long as the file is the same.
# limit: 300 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdcopy getfattr fincore find
need_fuse

SHARE=$TEST_DIR/share
# old FILE: it has not changed for so long that each later change has another time.
is_old() { [[ -z $(find "$1" -newerct '4 seconds ago') ]]; }
old() { wait_until 20 is_old "$1" || fail "$1 does not age"; }
origin_of() { ctl --json status | jq -c ".origins[] | select(.name == \"share\") | $1"; }

write_config
cat >>"$CONFIG" <<TOML

[[origin]]
name = "share"
type = "dir"
path = "$SHARE"
request_timeout = "5s"
TOML

# The daemon starts without it, says so when it is asked, and has it when it is there.
start_daemon
mount_at "$MNT"
here=$MNT/origins/share
expect_fail 1 'origins/share' ctl ls origins/share
expect_fail any 'Input/output error' ls "$here"
expect_equal false "$(origin_of .reachable)" "an origin that is away"
origin_of .trouble | grep -q "$SHARE" || fail "status does not say what is missing"
mkdir -p "$SHARE/sub/deep"
make_random "$SHARE/big" 9M
make_random "$SHARE/small" 777
make_random "$SHARE/sub/deep/x" 100K
: >"$SHARE/empty"
expect_equal '["big","empty","small","sub"]' "$(ctl --json ls origins/share | jq -c '[.entries[].name]')" "a listing"
expect_equal true "$(origin_of .reachable)" "an origin that is back"

# The same bytes through every door.
old "$SHARE/empty"
for path in big small sub/deep/x empty; do
  expect_same "$SHARE/$path" "$here/$path" "FUSE: $path"
  ctl get "origins/share/$path" -o "$TEST_DIR/got"
  expect_same "$SHARE/$path" "$TEST_DIR/got" "gRPC: $path"
done
nbdcopy "$(nbd_uri origins/share/big)" "$TEST_DIR/got"
expect_same "$SHARE/big" "$TEST_DIR/got" "NBD"
(cd "$here" && find . -type f -printf '%P %s\n') | sort >"$TEST_DIR/found"
(cd "$SHARE" && find . -type f -printf '%P %s\n') | sort >"$TEST_DIR/expected"
expect_same "$TEST_DIR/expected" "$TEST_DIR/found" "names and sizes"
expect_equal "$(stat -c '%Y' "$SHARE/big")" "$(stat -c '%Y' "$here/big")" "the time of change"
expect_equal "share dir file://$SHARE/sub/deep/x" \
  "$(getfattr --absolute-names --only-values -n user.blobcache.origin "$here/sub/deep/x")" "where it comes from"
expect_fail any 'Read-only|Permission denied|not permitted' touch "$here/new"
expect_fail 1 'not ours to remove' ctl rm origins/share/big

# Bytes are in one cache, not in two.
sync "$SHARE/big"
dd if="$SHARE/big" of="$SHARE/twice" bs=1M status=none
sync "$SHARE/twice"
cmp "$SHARE/big" "$here/twice" || fail "FUSE: a new file"
if [[ $(stat -f -c %T "$SHARE") != tmpfs ]]; then
  cat "$SHARE/twice" >/dev/null
  old "$SHARE/twice"
  ctl get origins/share/twice -o "$TEST_DIR/got"
  # Reads side by side may leave a few of what they read ahead of each other.
  pages=$(fincore -nbo PAGES "$SHARE/twice" | tr -d ' ')
  ((pages < 2304 / 4)) || fail "the kernel has $pages of 2304 pages, too"
fi

# What is cached serves without reading the origin again, after a restart, too. (What comes while the disk is busy is
# cached in memory alone.)
make_random "$SHARE/sub/last" 500K
old "$SHARE/sub/last"
is_on_disk() {
  ctl evict --tier ram origins/share/sub/last >/dev/null
  ctl get origins/share/sub/last -o "$TEST_DIR/got"
  ctl --json stat origins/share/sub/last | jq -e '.residency | .pages == .disk_pages' >/dev/null
}
wait_until 30 is_on_disk || fail "a file is not cached on disk"
stop_daemon
start_daemon
mount_at "$MNT"
expect_same "$SHARE/sub/last" "$here/sub/last" "after a restart"
expect_equal 0 "$(origin_of .bytes_read)" "bytes read again after a restart"
expect_same "$SHARE/big" "$here/big" "a large file after a restart"

# A changed file is another version at once; who has the old one open reads no byte of the new one.
exec 5<"$here/sub/deep/x"
make_random "$SHARE/sub/deep/x" 100K other
expect_same "$SHARE/sub/deep/x" "$here/sub/deep/x" "a changed file"
cat <&5 >"$TEST_DIR/old" || true
make_random "$TEST_DIR/was" 100K x
expect_same "$TEST_DIR/was" "$TEST_DIR/old" "the old version, which was cached"
exec 5<&-
make_random "$SHARE/sub/deep/y" 600K
old "$SHARE/sub/deep/y"
exec 5<"$here/sub/deep/y"
head -c 4096 "$here/sub/deep/y" | cmp - <(head -c 4096 "$SHARE/sub/deep/y") || fail "the first page"
truncate -s 100K "$SHARE/sub/deep/y"
expect_fail any 'Input/output error' cat <&5
exec 5<&-
expect_same "$SHARE/sub/deep/y" "$here/sub/deep/y" "a file that shrank"
mv "$SHARE/sub/deep/y" "$SHARE/small"
expect_same "$SHARE/small" "$here/small" "a file in another's place"
rm "$SHARE/small"
expect_fail any 'No such file' cat "$here/small"
mkdir "$SHARE/small"
# The kernel remembers for fuse.negative_timeout that there was none.
wait_until 20 test -d "$here/small" || fail "a directory in a file's place"

# Links are shown and never followed by the daemon; nothing leads out.
echo secret >"$TEST_DIR/secret"
ln -s ../secret "$SHARE/out"
ln -s "$TEST_DIR" "$SHARE/way"
ln -s sub/deep "$SHARE/in"
ln -s /proc/self/root "$SHARE/magic"
mkfifo "$SHARE/pipe"
expect_equal ../secret "$(readlink "$here/out")" "what a link says"
for path in out way/secret in/x magic/etc/hostname pipe ../secret; do
  expect_fail any '.' ctl get "origins/share/$path" -o "$TEST_DIR/none"
  [[ ! -e $TEST_DIR/none ]] || fail "something came of origins/share/$path"
done
expect_same "$SHARE/sub/deep/x" "$here/in/x" "a link that the reader's own kernel follows"
expect_equal 0 "$(ctl --json ls origins/share | jq '[.entries[] | select(.name == "pipe")] | length')" "pipes"

# Names are bytes.
long=$(printf '%255s' '' | tr ' ' n)
for name in "blank 'quote'" $'line\nfeed' $'\x1b[2J' 'back\slash' '%41' "$long" $'bytes\xff\x80' $'caf\xc3\xa9'; do
  make_random "$SHARE/$name" 5000 "$name"
  expect_same "$SHARE/$name" "$here/$name" "the bytes of $name"
done
(cd "$here" && find . -maxdepth 1 -type f -printf '%P\0') | sort -z >"$TEST_DIR/found"
(cd "$SHARE" && find . -maxdepth 1 -type f -printf '%P\0') | sort -z >"$TEST_DIR/expected"
expect_same "$TEST_DIR/expected" "$TEST_DIR/found" "odd names"

# A directory with many names is listed; one with too many is not, and has its files all the same.
mkdir "$SHARE/many"
(cd "$SHARE/many" && seq 65536 | xargs touch)
expect_equal 65536 "$(find "$here/many" -type f | wc -l)" "names in a large directory"
touch "$SHARE/many/one-more"
expect_fail any 'No space left' ls "$here/many"
[[ -f $here/many/65536 && -f $here/many/one-more ]] || fail "a name in a directory that is too large"

# Our own places are refused, at the start and later.
sed "s|^path = \"$SHARE\"|path = \"$STORE/objects\"|" "$CONFIG" >"$TEST_DIR/bad.toml"
expect_fail any 'origin.path: it lies beneath the store' "$BIN/blobcached" --config "$TEST_DIR/bad.toml" --check
mv "$SHARE" "$SHARE.was"
ln -s "$STORE" "$SHARE"
expect_fail 1 'the store' ctl ls origins/share
rm "$SHARE"
mkdir "$SHARE"
mount_at "$SHARE"
expect_fail 1 'would wait for itself' ctl ls origins/share
unmount_at "$SHARE"
rmdir "$SHARE"
mv "$SHARE.was" "$SHARE"
expect_same "$SHARE/big" "$here/big" "an origin that is itself again"
unmount_at "$MNT"
stop_daemon
