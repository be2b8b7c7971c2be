#!/bin/bash
# With fuse.allow_other the kernel checks owners and modes for everybody; without it nobody else enters.
. "$(dirname "$0")/lib.sh"
need_fuse
need_root
need setpriv

readonly ALICE=12001 BOB=12002 TEAM=12100
# as UID [GROUP] CMD...: without root's rights, in the user's own group.
as() {
  local uid=$1
  shift
  setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
as_in_team() {
  local uid=$1
  shift
  setpriv --reuid "$uid" --regid "$uid" --groups "$TEAM" "$@"
}
chmod 755 "$TEST_DIR"
as "$ALICE" ls "$TEST_DIR" >/dev/null || skip "another user cannot reach $TEST_DIR"

start_daemon --set fuse.allow_other=true
mount_at "$MNT"
files=$MNT/files
chmod 1777 "$files"

# Owners and modes of files.
as "$ALICE" sh -c "umask 077; echo secret >'$files/private'; umask 022; echo open >'$files/public'"
expect_equal "$ALICE:$ALICE 600" "$(stat -c '%u:%g %a' "$files/private")" "owner and mode of a new file"
expect_equal secret "$(as "$ALICE" cat "$files/private")" "one's own file"
expect_fail 1 'Permission denied' as "$BOB" cat "$files/private"
expect_equal open "$(as "$BOB" cat "$files/public")" "another's file that may be read"
expect_fail 2 'Permission denied' as "$BOB" sh -c "echo x >>'$files/public'"
expect_fail 1 'Permission denied' as "$BOB" truncate -s 0 "$files/public"
expect_fail 1 'Operation not permitted' as "$BOB" chmod 666 "$files/public"
expect_fail 1 'Operation not permitted' as "$BOB" chown "$BOB" "$files/public"
expect_fail 1 'Operation not permitted' as "$ALICE" chown "$BOB" "$files/public"
as "$ALICE" chmod 644 "$files/private"
may_read() { as "$1" cat "$2" >/dev/null 2>&1; }
may_read "$BOB" "$files/private" || fail "0644 does not let another read"
as "$ALICE" chmod 600 "$files/private"
if may_read "$BOB" "$files/private"; then fail "0600 lets another read who could before"; fi

# A sticky directory: whose file it is removes and renames it, and whose directory it is.
expect_fail 1 'Operation not permitted' as "$BOB" rm -f "$files/public"
expect_fail 1 'Operation not permitted' as "$BOB" mv "$files/public" "$files/stolen"
as "$BOB" touch "$files/of-bob"
as "$BOB" rm "$files/of-bob"

# Groups.
mkdir -m 2770 "$files/team"
chgrp "$TEAM" "$files/team"
chmod 2770 "$files/team"
as_in_team "$ALICE" sh -c "umask 007; echo ours >'$files/team/f'"
expect_equal "$TEAM 660" "$(stat -c '%g %a' "$files/team/f")" "group and mode of a file in a set-group-ID directory"
as_in_team "$BOB" sh -c "echo too >>'$files/team/f'"
expect_fail any 'Permission denied' as "$BOB" ls "$files/team"
expect_fail 1 'Permission denied' as "$BOB" cat "$files/team/f"

# Directories without x, and without w.
as "$ALICE" mkdir -m 755 "$files/alice"
as "$ALICE" touch "$files/alice/f"
expect_fail 1 'Permission denied' as "$BOB" rm -f "$files/alice/f"
expect_fail 1 'Permission denied' as "$BOB" touch "$files/alice/g"
as "$ALICE" chmod 700 "$files/alice"
expect_fail any 'Permission denied' as "$BOB" stat "$files/alice/f"

# Root is root: it is not squashed.
expect_equal secret "$(cat "$files/private")" "root reads everything"
echo more >>"$files/private"
expect_equal "$ALICE" "$(stat -c %u "$files/private")" "the owner after root wrote"
touch "$files/of-root"
expect_equal 0 "$(stat -c %u "$files/of-root")" "the owner of what root makes"

# blobs/ and volumes/ are the daemon's user's alone.
ctl volume create v --size 1MiB >/dev/null
expect_fail any 'Permission denied' as "$BOB" ls "$MNT/blobs"
expect_fail 1 'Permission denied' as "$BOB" cat "$MNT/volumes/v"
expect_fail 1 'Permission denied' as "$BOB" touch "$MNT/x"

# A set-user-ID program has no effect, since a mount is nosuid.
cp /bin/true "$files/suid"
chmod 4755 "$files/suid"
awk -v mnt="$MNT" '$2 == mnt && $4 ~ /nosuid/ && $4 ~ /nodev/ && $4 ~ /allow_other/ {found = 1} END {exit !found}' \
  /proc/self/mounts || fail "the mount is not nosuid, nodev and allow_other"
unmount_at "$MNT"
stop_daemon

# Without allow_other others do not enter, whatever the modes say.
start_daemon
mount_at "$MNT"
expect_fail any 'Permission denied' as "$ALICE" ls "$MNT"
expect_fail 1 'Permission denied' as "$ALICE" cat "$MNT/files/public"
expect_equal open "$(cat "$MNT/files/public")" "the daemon's user enters"
unmount_at "$MNT"
stop_daemon
