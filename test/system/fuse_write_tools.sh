#!/bin/bash
# Tools that people work with, working in files/: cp -a, tar, rsync, git, sqlite3. What they made is right, and is
# still there, as blobs, after a restart.
# limit: 240 seconds
. "$(dirname "$0")/lib.sh"
need git rsync sqlite3 tar
need_fuse
need_root

# A tree with what a tree may have: sizes, modes, times, owners, links of both kinds, holes, odd names.
mkdir -p "$TEST_DIR/in/deep/er" "$TEST_DIR/in/empty"
for size in 0 1 4095 4096 4097 300000 5000001; do make_random "$TEST_DIR/in/deep/$size" "$size"; done
printf 'x' >"$TEST_DIR/in/deep/er/"$'odd \n name \xff'
truncate -s 3M "$TEST_DIR/in/sparse"
printf 'end' >>"$TEST_DIR/in/sparse"
ln -s deep/4097 "$TEST_DIR/in/link"
ln -s nowhere "$TEST_DIR/in/dangling"
ln "$TEST_DIR/in/deep/4096" "$TEST_DIR/in/second name"
chmod 4755 "$TEST_DIR/in/deep/1"
chmod 1777 "$TEST_DIR/in/empty"
chown 1234:4321 "$TEST_DIR/in/deep/4095"
find "$TEST_DIR/in" -exec touch -h -d '2020-02-03 04:05:06.789' {} +

start_daemon
mount_files_at "$MNT"

# What both trees show, but for what no copy keeps: times of access and change, numbers, blocks.
listing() {
  (cd "$1" && find . -printf '%P|%y|%m|%U:%G|%l|%T@|' \( -type d -printf '\n' -o -printf '%s|%n\n' \) | sort)
}
expect_copy() {
  diff -r --no-dereference "$TEST_DIR/in" "$1" || fail "$2: contents differ"
  diff <(listing "$TEST_DIR/in") <(listing "$1") || fail "$2: attributes differ"
}

cp -a "$TEST_DIR/in" "$MNT/files/cp"
expect_copy "$MNT/files/cp" "cp -a"

mkdir "$MNT/files/tar"
tar --format=posix -C "$TEST_DIR/in" -cf "$TEST_DIR/in.tar" .
tar -C "$MNT/files/tar" -xpf "$TEST_DIR/in.tar"
expect_copy "$MNT/files/tar" "tar x"
tar -C "$MNT/files/tar" --compare -f "$TEST_DIR/in.tar" || fail "tar --compare"

rsync -aH "$TEST_DIR/in/" "$MNT/files/rsync"
expect_copy "$MNT/files/rsync" "rsync -a"
expect_equal "" "$(rsync -aHc --dry-run --itemize-changes "$TEST_DIR/in/" "$MNT/files/rsync")" "what rsync would change"
printf 'changed' | dd of="$TEST_DIR/in/deep/300000" bs=1 seek=123456 conv=notrunc status=none
rsync -aHc --inplace "$TEST_DIR/in/" "$MNT/files/rsync"
expect_copy "$MNT/files/rsync" "rsync --inplace"
rm -rf "$MNT/files/tar"
[[ ! -e $MNT/files/tar ]] || fail "rm -rf left something"

# A repository: many small files, renames over one another, memory maps of packs.
git -c init.defaultBranch=main init -q "$TEST_DIR/repo"
(
  cd "$TEST_DIR/repo"
  for i in $(seq 60); do printf 'file %d\n' "$i" >"f$i"; done
  git add .
  git -c user.name=a -c user.email=a@b commit -qm one
  for i in $(seq 20); do printf 'again\n' >>"f$i"; done
  git -c user.name=a -c user.email=a@b commit -qam two
)
git clone -q "$TEST_DIR/repo" "$MNT/files/clone"
git -C "$MNT/files/clone" fsck --strict || fail "git fsck"
expect_equal "" "$(git -C "$MNT/files/clone" status --porcelain)" "what git says has changed"
(
  cd "$MNT/files/clone"
  printf 'third\n' >>f1
  git -c user.name=a -c user.email=a@b commit -qam three
  git gc -q --prune=now
  git fsck --strict
) || fail "git commit and gc in the tree"

# A database, in both of its modes.
for mode in delete wal; do
  sqlite3 "$MNT/files/$mode.db" "PRAGMA journal_mode=$mode; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);" >/dev/null
  for i in $(seq 25); do
    sqlite3 "$MNT/files/$mode.db" "INSERT INTO t (b) VALUES (hex(randomblob(2000)));"
  done
  sqlite3 "$MNT/files/$mode.db" "UPDATE t SET b = b || 'x'; DELETE FROM t WHERE a % 3 = 0; VACUUM;"
  expect_equal ok "$(sqlite3 "$MNT/files/$mode.db" 'PRAGMA integrity_check')" "integrity of a database, $mode"
  expect_equal 17 "$(sqlite3 "$MNT/files/$mode.db" 'SELECT count(*) FROM t')" "rows, $mode"
done

sums() { (cd "$MNT/files/cp" && find . -type f -exec sha256sum {} + | sort); }
sums >"$TEST_DIR/sums"
listing "$MNT/files/cp" >"$TEST_DIR/listing"
stop_daemon
start_daemon
mount_files_at "$MNT"
diff "$TEST_DIR/sums" <(sums) || fail "contents after a restart"
diff "$TEST_DIR/listing" <(listing "$MNT/files/cp") || fail "attributes after a restart"
expect_copy "$MNT/files/rsync" "rsync, after a restart"
git -C "$MNT/files/clone" fsck --strict || fail "git fsck after a restart"
for mode in delete wal; do
  expect_equal ok "$(sqlite3 "$MNT/files/$mode.db" 'PRAGMA integrity_check')" "integrity after a restart, $mode"
done
unmount_files_at "$MNT"
stop_daemon
