#!/bin/bash
# Random operations on files and names through the mount give what a model, or a native directory, gives; also after
# kills.
. "$(dirname "$0")/lib.sh"
need cc python3
need_fuse
need_root

seed=${SEED:-$RANDOM}
echo "SEED=$seed"
cc -O2 -o "$TEST_DIR/file_model" "$SOURCE_DIR/test/system/file_model.c" || fail "the model does not compile"
set_up() {
  start_daemon --set store.memory=8MiB --set store.settle_after=50ms
  mount_files_at "$MNT"
}
set_up
mkdir -p "$MNT/files/m" "$MNT/files/names" "$TEST_DIR/names"

# One file at a time: by one process, by several in turns, with pauses in which it settles, large and small.
for i in 1 2 3 4 5 6; do
  "$TEST_DIR/file_model" "$MNT/files/m" $((seed + i)) 700 $((i * i * 60000)) $((i % 3 + 1)) $((i % 2)) ||
    fail "the file is not as the model (seed $((seed + i)))"
done

# One file at the same time: processes write slices that share pages, through one mount and through two.
cc -O2 -o "$TEST_DIR/shared_file" "$SOURCE_DIR/test/system/shared_file.c" || fail "the writers do not compile"
mount_at "$TEST_DIR/second"
for slice in 333 1000 4096; do
  "$TEST_DIR/shared_file" "$MNT/files/shared" "$seed" 4 2 $((slice * 300)) "$slice" || fail "slices of $slice bytes"
  [[ -z ${WRITEBACK-} ]] || continue  # a second mount is nobody's to write through then
  "$TEST_DIR/shared_file" "$MNT/files/shared,$TEST_DIR/second/files/shared" "$seed" 4 2 $((slice * 300)) "$slice" ||
    fail "slices of $slice bytes, through two mounts"
done
unmount_at "$TEST_DIR/second"

# Names.
for i in 1 2; do
  python3 "$SOURCE_DIR/test/system/names_model.py" "$TEST_DIR/names" "$MNT/files/names" $((seed + i)) 800 ||
    fail "names are not as in a native directory"
done

if [[ -n ${WRITEBACK-} ]]; then  # what a kill takes then is another test's
  unmount_files_at "$MNT"
  stop_daemon
  exit 0
fi

# Several files, while the daemon is killed: what was answered is there, what was not is the old or the new.
for round in 1 2 3 4 5 6; do
  pids=()
  for i in 1 2 3; do
    in_background "$TEST_DIR/file_model" "$MNT/files/m" $((seed + 100 + i)) 1000000 $((i * 300000)) "$i" 1 \
      "$TEST_DIR/model.$i" >"$TEST_DIR/out.$i"
    pids+=("$BACKGROUND_PID")
  done
  sleep 0.$((RANDOM % 9 + 1))
  kill_daemon
  for i in 1 2 3; do
    status=0
    wait "${pids[i - 1]}" || status=$?
    ((status == 3)) || fail "round $round: $(<"$TEST_DIR/out.$i")"
  done
  set_up
  python3 "$SOURCE_DIR/test/system/names_model.py" "$TEST_DIR/names" "$MNT/files/names" "$seed" 0 --compare-only ||
    fail "names after a kill"
done

all_settled() { [[ -z $(ls -A "$STORE/writing") ]]; }
wait_until 30 all_settled || fail "not everything settled"
ctl scrub || fail "scrub"
unmount_files_at "$MNT"
stop_daemon
