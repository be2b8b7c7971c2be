#!/bin/bash
# What a program relies on when it writes to files/: each thing by the system call that asks for it.
. "$(dirname "$0")/lib.sh"
need_fuse
need_root
need jq nbdinfo python3 flock fallocate

start_daemon
mount_files_at "$MNT"
cd "$MNT/files"

# A file is there from its creation; O_EXCL is a lock.
(set -C && : >lock) || fail "O_EXCL of a new name"
(set -C && : >lock) 2>/dev/null && fail "O_EXCL of a name that is there"
[[ -f lock && ! -s lock ]] || fail "an empty file"

# Others see each write at once, appends go to the end, a longer file has zeros between.
exec {writer}>shared
exec {reader}<shared
printf 'one' >&"$writer"
expect_equal one "$(cat <&"$reader")" "what another handle reads"
printf 'two' >>shared
expect_equal onetwo "$(cat shared)" "after an append"
truncate -s 10 shared
expect_equal "$(printf 'onetwo\0\0\0\0' | xxd -p)" "$(xxd -p <shared)" "a file made longer"
truncate -s 2 shared
truncate -s 6 shared
expect_equal "$(printf 'on\0\0\0\0' | xxd -p)" "$(xxd -p <shared)" "a file cut and made longer"
exec {writer}>&- {reader}<&-
: >shared
expect_equal 0 "$(stat -c %s shared)" "O_TRUNC"

# A file that has settled is written to again, a little of it.
make_random "$TEST_DIR/big" 3000001
cp "$TEST_DIR/big" big
# A mount that holds writes back has no attributes; another one tells.
attributes=$MNT
if [[ -n ${WRITEBACK-} ]]; then
  attributes=$TEST_DIR/attributes
  mount_at "$attributes"
fi
attribute() { getfattr --absolute-names --only-values -n "user.blobcache.$1" "$attributes/files/$2" 2>/dev/null; }
settled() { [[ $(attribute settled "$1") == 1 ]]; }
wait_until 20 settled big || fail "a file at rest did not settle"
expect_equal "sha256:$(sha256_of "$TEST_DIR/big")" "$(attribute digest big)" "the digest of a settled file"
number=$(stat -c %i big)
for file in "$TEST_DIR/big" big; do printf 'patch' | dd of="$file" bs=1 seek=1234567 conv=notrunc status=none; done
expect_same "$TEST_DIR/big" big "a part of a settled file written anew"
settled big && fail "a file that was just written to says that it is settled"
wait_until 20 settled big || fail "it did not settle again"
expect_same "$TEST_DIR/big" big "settled again"
expect_equal "$number" "$(stat -c %i big)" "the inode number of a file that settled"
ctl get files/big -o "$TEST_DIR/got"
expect_same "$TEST_DIR/big" "$TEST_DIR/got" "blobcachectl get"

# Names: rename in all its forms, links, directories.
printf a >a
printf b >b
mv a b
expect_equal a "$(cat b)" "rename over a name"
printf c >c
mv -n c b
expect_equal a "$(cat b)" "RENAME_NOREPLACE"
python3 - <<'PY' || fail "RENAME_EXCHANGE"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.renameat2(-100, b"b", -100, b"c", 2) == 0, ctypes.get_errno()
assert open("b").read() == "c" and open("c").read() == "a"
PY
ln b hard
expect_equal 2 "$(stat -c %h b)" "links of a file with two names"
printf more >>hard
expect_equal cmore "$(cat b)" "a write through the other name"
rm b
expect_equal "cmore 1" "$(cat hard) $(stat -c %h hard)" "the name that is left"
ln -s hard soft
expect_equal "hard cmore" "$(readlink soft) $(cat soft)" "a symbolic link"
expect_equal '["symlink","hard"]' "$(ctl --json stat files/soft | jq -c '[.type, .target]')" "the link, by blobcachectl"
ctl stat files/soft | grep -q 'target *hard' || fail "stat does not tell what a link says"
expect_fail 1 'symbolic link' ctl get files/soft
expect_fail any 'symbolic link|No such file' nbdinfo "$(nbd_uri files/soft)"
mkdir -p d/e/f
printf x >d/e/f/x
mv d d2
expect_equal x "$(cat d2/e/f/x)" "beneath a renamed directory"
expect_fail 1 'Directory not empty' rmdir d2
expect_fail 1 'subdirectory of itself' mv d2 d2/e/
expect_fail 1 'Is a directory' python3 -c 'import os,sys
try: os.rename("hard", "d2")
except OSError as e: sys.exit(e.strerror)'
expect_fail 1 'Not a directory' python3 -c 'import os,sys
try: os.rename("d2", "hard")
except OSError as e: sys.exit(e.strerror)'
expect_fail 1 'Operation not permitted' python3 -c 'import os,sys
try: os.link("d2", "d3")
except OSError as e: sys.exit(e.strerror)'
rm -r d2

# What is open lives on without its name.
printf alive >gone
exec {open}<>gone
rm gone
printf '!' >>"/proc/self/fd/$open"
expect_equal 'alive!' "$(cat "/proc/self/fd/$open")" "a file without a name"
exec {open}>&-

# Attributes.
touch -d '2001-02-03 04:05:06' hard
chmod 640 hard
chown 12:34 hard
expect_equal "640 12:34 2001-02-03 04:05:06" "$(TZ=UTC stat -c '%a %u:%g %.19y' hard)" "mode, owner and time"
mkdir -m 2770 group
chgrp 77 group
chmod g+s group
: >group/in
mkdir group/sub
expect_equal "77 77 2" "$(stat -c %g group/in) $(stat -c %g group/sub) $(stat -c %a group/sub | cut -c1)" "set-group-ID"

# Space: holes, punches, zeros.
fallocate -l 1M space
expect_equal 1048576 "$(stat -c %s space)" "fallocate"
make_random "$TEST_DIR/space" 1M
cp "$TEST_DIR/space" space
fallocate -p -o 8192 -l 100000 space
fallocate -z -o 500000 -l 4097 space
for place in '8192 100000' '500000 4097'; do
  read -r at length <<<"$place"
  dd if=/dev/zero of="$TEST_DIR/space" bs=1 seek="$at" count="$length" conv=notrunc status=none
done
expect_same "$TEST_DIR/space" space "punched and zeroed"

# Shared maps, locks among processes.
python3 - <<'PY' || fail "a shared map"
import mmap, os
with open("mapped", "w+b") as f:
    f.truncate(100000)
    m = mmap.mmap(f.fileno(), 100000)
    m[70000:70005] = b"hello"
    m.flush()
    assert os.pread(os.open("mapped", os.O_RDONLY), 5, 70000) == b"hello"
    m[1:3] = b"zz"
    m.close()
with open("mapped", "rb") as f:
    assert f.read()[1:3] == b"zz"
PY
exec {held}>locked
flock -n "$held" || fail "flock"
flock -n locked true && fail "flock, held by another"
exec {held}>&-

# What cannot be, says why.
expect_fail 1 'File too large' truncate -s 9T hard
expect_fail 1 'File name too long' touch "$(printf 'n%.0s' $(seq 256))"
expect_fail 1 'Operation not permitted' mkfifo fifo
cd "$TEST_DIR"
if [[ -n ${WRITEBACK-} ]]; then  # a mount of files/ alone
  unmount_files_at "$MNT"
  stop_daemon
  exit 0
fi
for command in "touch $MNT/blobs/x" "touch $MNT/x" "mkdir $MNT/volumes/x" "mkdir $MNT/origins/x"; do
  # shellcheck disable=SC2086  # words
  expect_fail 1 'Read-only file system|Operation not permitted|Permission denied' $command
done
expect_fail 1 'cross-device|Invalid cross' python3 -c 'import os,sys
try: os.rename(sys.argv[1] + "/files/hard", sys.argv[1] + "/hard")
except OSError as e: sys.exit(e.strerror)' "$MNT"

unmount_files_at "$MNT"
stop_daemon
