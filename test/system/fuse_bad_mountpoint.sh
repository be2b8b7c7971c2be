#!/bin/bash
# A mountpoint that cannot be used gives one clear line and exit status 1, and nothing is mounted.
. "$(dirname "$0")/lib.sh"
need_fuse
need_root

mkdir "$TEST_DIR/full" "$TEST_DIR/empty" "$TEST_DIR/taken"
touch "$TEST_DIR/full/file" "$TEST_DIR/plain"
mount -t tmpfs none "$TEST_DIR/taken"

# Other tests mount at the same time: only what is ours counts.
mounts() { awk -v ours="$TEST_DIR/" 'index($2, ours) == 1 {print $2, $3}' /proc/self/mounts | sort; }
before=$(mounts)
# refused WHERE REGEX: as a daemon's configuration, and as a command to one that runs.
refused() {
  expect_fail 1 "$2" daemon_once --set "fuse.mountpoint=$1"
  expect_equal 1 "$(grep -Ec -- "$2" "$TEST_DIR/expect.err")" "lines that say why $1 cannot be mounted at"
}
refused "$TEST_DIR/missing" "missing.*does not exist"
refused "$TEST_DIR/plain" "plain.*not a directory"
refused "$TEST_DIR/full" "full.*not empty"
refused "$TEST_DIR/taken" "taken.*mounted there already"
expect_equal "$before" "$(mounts)" "mounts after refused starts"

start_daemon
for where in missing plain full taken; do
  expect_fail 1 "$where" ctl mount "$TEST_DIR/$where"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines about $where"
done
mkdir "$STORE/beneath"
ln -s "$STORE/beneath" "$TEST_DIR/link"
for where in "$STORE/beneath" "$TEST_DIR/link"; do
  expect_fail 1 "mount $where: mountpoint $where: it lies beneath the store, $STORE" ctl mount "$where"
done
expect_equal "$before" "$(mounts)" "mounts after refused commands"

# And the daemon is none the worse for it.
mount_at "$TEST_DIR/empty"
expect_fail 1 "mounted" ctl mount "$TEST_DIR/empty"
[[ -d $TEST_DIR/empty/files ]] || fail "the mount does not work"
expect_fail 1 "files: it lies on a mount of blobcache, $TEST_DIR/empty" ctl mount "$TEST_DIR/empty/files"
ln -s "$TEST_DIR/empty" "$TEST_DIR/other"
ln -s "$TEST_DIR/missing" "$TEST_DIR/dangling"
expect_fail 1 "empty: something is mounted there already" ctl mount "$TEST_DIR/other"
expect_fail 1 "dangling: it is a symbolic link to what does not exist" ctl mount "$TEST_DIR/dangling"
expect_fail 1 "no mount" ctl umount "$TEST_DIR/full"
unmount_at "$TEST_DIR/empty"
# A mount goes by either name.
ctl mount "$TEST_DIR/other"
unmount_at "$TEST_DIR/empty"
mount_at "$TEST_DIR/empty"
ctl umount "$TEST_DIR/other"
expect_equal "$before" "$(mounts)" "mounts at the end"
stop_daemon
