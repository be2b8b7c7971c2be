#!/bin/bash
# A mount shows all of the tree or one directory of it, writable or not; several mounts of one daemon go side by side.
. "$(dirname "$0")/lib.sh"
need_fuse
need_root
need jq

start_daemon
mount_at "$MNT"
mkdir -p "$MNT/files/x/deep" "$MNT/files/other"
echo one >"$MNT/files/x/a"
echo two >"$MNT/files/file"
ln -s x "$MNT/files/link"

part=$TEST_DIR/part
fixed=$TEST_DIR/fixed
mkdir "$part" "$fixed"
ctl mount "$part" --subtree files/x/
ctl mount --read-only "$fixed" --subtree /files/x

expect_equal "a deep" "$(cd "$part" && echo -- * | cut -c4-)" "what the subtree has"
expect_equal 1 "$(stat -c %i "$part")" "the inode number of the root"
expect_equal "$(stat -c %i "$MNT/files/x/a")" "$(stat -c %i "$part/a")" "the inode number of a file"
[[ ! -e $part/../files && ! -e $part/files ]] || fail "a name above the subtree can be reached"
df "$part" >/dev/null

# What is changed through one is seen through the others.
echo three >"$part/b"
reads() { [[ $(cat "$1" 2>/dev/null) == "$2" ]]; }
wait_until 10 reads "$MNT/files/x/b" three || fail "the whole mount does not see it"
wait_until 10 reads "$fixed/b" three || fail "the read-only mount does not see it"
mv "$part/b" "$part/deep/c"
wait_until 10 reads "$MNT/files/x/deep/c" three || fail "the whole mount does not see the rename"
rm "$MNT/files/x/deep/c"
gone() { [[ ! -e $1 ]]; }
wait_until 10 gone "$part/deep/c" || fail "the subtree still shows what was removed"
expect_fail 1 "Read-only file system" touch "$fixed/b"
expect_fail 1 "Read-only file system" rm "$fixed/a"

# The mounts are told of.
shown=$(ctl --json status | jq -r --arg dir "$TEST_DIR/" \
  '.mounts[] | "\(.mountpoint | ltrimstr($dir)) \(.subtree) \(.read_only)"')
expect_equal $'fixed files/x true\nmnt  false\npart files/x false' "$shown" "mounts of the status"
ctl status | grep -qF "$fixed (files/x, read-only)" || fail "status does not say how it is mounted"

# What is no directory of the tree is refused with a sentence, and nothing is mounted.
mkdir "$TEST_DIR/no"
expect_fail 1 'subtree files/none: there is no such directory in the tree' ctl mount "$TEST_DIR/no" --subtree files/none
expect_fail 1 'names are under files/, as in files/other' ctl mount "$TEST_DIR/no" --subtree other
expect_fail 1 'missing: it does not exist; make it with: mkdir -p [^ ]*$' ctl mount "$TEST_DIR/missing" --subtree other
expect_fail 1 'subtree files/file: it is not a directory' ctl mount "$TEST_DIR/no" --subtree files/file
expect_fail 1 'subtree files/link: it is a symbolic link' ctl mount "$TEST_DIR/no" --subtree files/link
expect_fail 2 'subtree' ctl mount "$TEST_DIR/no" --subtree files/../x
if mountpoint -q "$TEST_DIR/no"; then fail "a refused subtree is mounted"; fi

# A directory that is renamed is followed; one that is removed leaves nothing to see.
mv "$MNT/files/x" "$MNT/files/y"
mkdir "$MNT/files/x"
expect_equal one "$(cat "$part/a")" "a file after its directory was renamed"
rm -r "$MNT/files/y"
no_root() { ! ls "$part" 2>"$TEST_DIR/ls.err"; }
wait_until 10 no_root || fail "a removed directory can be listed"
grep -q 'Stale file handle' "$TEST_DIR/ls.err" || fail "a removed directory is not stale"
umount "$part"
ctl umount "$fixed"

# The mount of the start.
stop_daemon
expect_fail 1 'fuse.mountpoint: subtree files/none: there is no such directory' \
  daemon_once --set "fuse.mountpoint=$MNT" --set fuse.subtree=files/none
start_daemon --set "fuse.mountpoint=$MNT" --set fuse.subtree=files/other --set fuse.read_only=true
log_says "mounted on $MNT \(files/other, read-only\)" || fail "the log does not say what is mounted"
expect_fail 1 "Read-only file system" touch "$MNT/z"
mount_at "$part"
touch "$part/files/other/z"
wait_until 10 test -e "$MNT/z" || fail "a mount beside it does not write to the same directory"
stop_daemon
